"""DINOv3: DinoVisionTransformer of its repository, bare, in a training checkpoint, or under its linear classifier.

References:
    Siméoni et al. 2025 (DINOv3)
    https://github.com/facebookresearch/dinov3 models/vision_transformer.py, layers/attention.py (LinearKMaskedBias),
    layers/rope_position_encoding.py, hub/backbones.py, hub/classifiers.py

A mask takes the bias of k out of the function: a file with the mask has q and v biases only. The rotary periods stand
in the file and, as there, may be rounded to bfloat16: their number tells the heads, their values tell theta. timm and
transformers compute them exactly, which is another function: rope_round_periods=none chooses that one.
"""

from collections.abc import Callable, Mapping

import ml_dtypes
import numpy as np

from vit_convert.config import ViTConfig
from vit_convert.layouts.base import Aside, Bare, Described, Layout, Spare, coded, layer_rules
from vit_convert.layouts.dinov2 import pooling
from vit_convert.layouts.meta import BIASES, ENCODER, built, mlp_and_head, sizes_of, together, writer, zeros
from vit_convert.positions import rope_periods
from vit_convert.rules import Rule, Shape, Spelling

LEFT, RIGHT = "{model}blocks.{block}", "blocks.{block}"
LAYERS = {
    "{model}patch_embed.proj": "patch_embed.proj",
    **{f"{LEFT}.{name}": f"{RIGHT}.{name}" for name in ("norm1", "attn.proj", "norm2")},
    f"{LEFT}.mlp.{{layer}}": f"{RIGHT}.mlp.{{layer}}",
    "{model}norm": "norm",
    "{model}local_cls_norm": "local_cls_norm",
    "linear_head": "head",  # of hub/classifiers.py, on the class token and the average patch
}
PERIODS, MASK, K_BIAS = "rope_embed.periods", f"{RIGHT}.attn.qkv.bias_mask", f"{RIGHT}.attn.k_bias"
PACKED = {"weight": "packed o i -> (packed o) i", "bias": "packed o -> (packed o)"}  # w1, the gate, and w2
RULES = (
    Rule("{model}cls_token", "cls_token"),
    Rule("{model}storage_tokens", "reg_token"),
    Rule("{model}mask_token", "mask_token"),
    Rule(f"{{model}}{PERIODS}", PERIODS),
    Rule(f"{LEFT}.attn.qkv.weight", f"{RIGHT}.attn.qkv.weight"),
    Rule(f"{LEFT}.attn.{{whole}}.bias", f"{RIGHT}.attn.{{whole}}.bias"),
    Rule(f"{LEFT}.attn.qkv.bias", f"{RIGHT}.attn.{{part}}_bias", "(part o) -> part o"),
    Rule(f"{LEFT}.attn.qkv.bias_mask", MASK),
    *(Rule(f"{LEFT}.mlp.{{packed}}.{leaf}", f"{RIGHT}.mlp.fc1.{leaf}", axes) for leaf, axes in PACKED.items()),
    *(Rule(f"{LEFT}.ls{i}.gamma", f"{RIGHT}.ls{i}.gamma") for i in (1, 2)),
    *layer_rules(LAYERS),
)
WRAPPED = "backbone."
HUB_SIZE = 224  # img_size of every model in hub/backbones.py
SEVEN_B = {"dim": 4096, "depth": 40}
FLOAT32 = 1e-6  # what the repository's float32 powers may be off


def recognise(shapes: Mapping[str, Shape]) -> Mapping[str, Spelling] | None:
    """By its rotary periods, which no other repository calls that."""
    model = WRAPPED if f"{WRAPPED}{PERIODS}" in shapes else ""
    if f"{model}{PERIODS}" not in shapes or f"{model}patch_embed.proj.weight" not in shapes:
        return None
    blocks = [name for name in shapes if name.startswith(f"{model}blocks.")]
    masked = any(name.endswith(".attn.qkv.bias_mask") for name in blocks)
    return holes(model, any(name.endswith(".mlp.w1.weight") for name in blocks), masked)


def holes(model: str, swiglu: bool, masked: bool) -> Mapping[str, Spelling]:
    """What fills the table's holes: `masked` is a file whose bias of k doesn't count."""
    return {
        "model": model,
        "whole": [] if masked else ["qkv"],
        "part": ["q", "k", "v"] if masked else [],
        "packed": ["w1", "w2"] if swiglu else [],
        "layer": [("w3", "fc2")] if swiglu else ["fc1", "fc2"],
    }


def spell(config: ViTConfig) -> Mapping[str, Spelling]:
    """Under its classifier, which calls it `backbone`, if there is one."""
    return holes(WRAPPED if config.num_classes else "", config.mlp == "swiglu", config.qkv_bias == "qv")


def bare(file: Bare) -> Described:
    """All but the image size of models that the repository doesn't build: there is no table to tell it.

    Raises:
        CheckpointError: a classifier on four layers' class tokens.
    """
    code = {"norm_eps": 1e-5, "pos_embed": "none", "rope": "dinov3", "pool": pooling(file)}  # norm_layer layernormbf16
    code["act"] = "silu" if any(name.endswith(".mlp.w1.weight") for name in file.shapes) else "gelu"
    size = built("DINOv3", sizes_of("dinov3"), file.hub)
    if "num_heads" in size.fields:
        source = size.sources["num_heads"]
        size = Described({"image_size": HUB_SIZE}, sources={"image_size": source})
    return together(_evaluation(file), coded("DINOv3", code), size, rope(file))


def _evaluation(file: Bare) -> str:
    """Satellite images have statistics of their own. Which of both a 7B model is of, nothing tells."""
    dim = file.hub["patch_embed.proj.weight"][0]
    if dim == SEVEN_B["dim"]:
        return ""
    return "dinov3_sat493m" if dim == 1024 and "local_cls_norm.weight" in file.hub else "dinov3"


def rope(file: Bare) -> Described:
    """Heads, theta and rounding, from the periods theta^(i / n), n = head_dim / 4 of them."""
    name = next(name for name in file.shapes if name.endswith(PERIODS))
    periods, dim = file.read(name).astype(np.float64), file.hub["patch_embed.proj.weight"][0]
    fields: dict[str, object] = {}
    if len(periods) and dim % (4 * len(periods)) == 0:
        fields["num_heads"] = dim // (4 * len(periods))
    found = solve(periods)
    if found is not None:
        fields |= {"rope_theta": found[0], "rope_round_periods": found[1]}
    hint = "" if found else f"{name} are not the powers of one theta"
    return Described(fields, hint=hint, sources=dict.fromkeys(fields, name))


def solve(periods: np.ndarray) -> tuple[float, str] | None:
    """(theta, rounding) whose periods these are, (n,) float64; theta with as few digits as they allow."""
    n = len(periods)
    if n < 2 or not np.isfinite(periods).all() or periods[-1] <= 0:
        return None
    near = periods[-1] ** (n / (n - 1))
    for digits in range(1, 8):
        theta = float(f"{near:.{digits}g}")
        exact = theta ** (np.arange(n) / n)
        if np.array_equal(periods, exact.astype(ml_dtypes.bfloat16).astype(np.float64)):
            return theta, "bfloat16"
        if np.allclose(periods, exact, rtol=FLOAT32, atol=0):
            return theta, "none"
    return None


def check_periods(config: ViTConfig, periods: np.ndarray) -> None:
    """Raises ValueError if they are not those of the config.

    Who asks for exact ones, as timm and transformers compute them, may have them of a file that rounds them.
    """
    expected, got = rope_periods(config), periods.astype(np.float64)
    rounded = expected.astype(ml_dtypes.bfloat16).astype(np.float64)
    exact = config.rope_round_periods == "none" and got.shape == expected.shape
    if not np.array_equal(got, rounded) and not (exact and np.allclose(got, expected, rtol=FLOAT32, atol=0)):
        raise ValueError(
            f"expected {expected} (rope_theta {config.rope_theta}, rope_round_periods {config.rope_round_periods!r}, "
            f"heads of {config.head_dim}), got {got}"
        )


def make_periods(config: ViTConfig) -> np.ndarray:
    """In bfloat16 as published, or in float32."""
    return rope_periods(config).astype(ml_dtypes.bfloat16 if config.rope_round_periods == "bfloat16" else np.float32)


def make_mask(config: ViTConfig) -> np.ndarray:
    """One on q and v, zero on k: (3 * dim,)."""
    return np.repeat(np.array([1, 0, 1], np.float32), config.dim)


def check_mask(config: ViTConfig, mask: np.ndarray) -> None:
    """Raises ValueError if it does anything but to take the bias of k out."""
    if not np.array_equal(mask.astype(np.float32), make_mask(config)):
        raise ValueError("expected ones for q and v and zeros for k, got other values: was init_weights() called?")


def if_masked(make: Callable[[ViTConfig], np.ndarray]) -> Callable[[ViTConfig], np.ndarray | None]:
    """Made only where the class has a bias of k that is taken out."""
    return lambda config: make(config) if config.qkv_bias == "qv" else None


def make_local_norm(value: float) -> Callable[[ViTConfig], np.ndarray | None]:
    """The class of dinov3_vit7b16 has a norm that only training uses; that of smaller models may or may not have it."""

    def make(config: ViTConfig) -> np.ndarray | None:
        is_7b = all(getattr(config, name) == size for name, size in SEVEN_B.items())
        return np.full(config.dim, value, np.float32) if is_7b else None

    return make


MASKED = "bias_mask and the biases of k, which it takes out of the function"
LOCAL = "local_cls_norm (training on local crops)"
SPARES = (
    Spare("mask_token", "mask_token (masked pre-training)", make=zeros("1", "dim")),
    Spare(PERIODS, "the rotary periods: the config has their theta", make_periods, like="", check=check_periods),
    Spare(MASK, MASKED, if_masked(make_mask), check=check_mask),
    Spare(K_BIAS, MASKED, if_masked(zeros("dim")), like=f"{RIGHT}.attn.q_bias"),
    Spare("local_cls_norm.weight", LOCAL, make_local_norm(1)),
    Spare("local_cls_norm.bias", LOCAL, make_local_norm(0)),
)


DINOV3 = Layout(
    name="dinov3",
    summary="facebookresearch/dinov3: load_state_dict of the backbone, or of its linear classifier",
    rules=RULES,
    recognise=recognise,
    spell=spell,
    write=writer("dinov3", "DINOv3", lambda config: config.pos_resize),
    limits={
        **ENCODER,
        "norm": ("layer", "rms"),
        "qkv_bias": ("all", "qv", "none"),
        "dist_token": (False,),
        "pos_embed": ("none",),
        "rope": ("dinov3",),
        "norm_eps": (1e-5,),
        "final_norm": ("tokens",),
    },
    conflicts=mlp_and_head,
    bare=bare,
    asides=tuple(Aside(f"{head}_head.", "the self-supervised head") for head in ("dino", "ibot")),
    spares=SPARES,
    adapts=BIASES,
)
