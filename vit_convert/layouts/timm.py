"""timm's VisionTransformer and VisionTransformerDistilled, in every option that ViTConfig has a field for.

References:
    https://github.com/huggingface/pytorch-image-models timm/models/vision_transformer.py, deit.py
"""

from collections.abc import Collection, Mapping
from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.layouts import timm_config
from vit_convert.layouts.base import Beside, Described, Files, Json, Layout, outside
from vit_convert.layouts.names import HUB
from vit_convert.layouts.timm_args import gated_apart, read_args, write_args
from vit_convert.preprocess import Preprocess
from vit_convert.presets import TIMM_EVA, TIMM_VIT
from vit_convert.rules import Rule, Spelling
from vit_convert.steps import fold_prefix_positions, zero_head_bias, zero_key_bias, zero_patch_bias

_PACKED = ("attn_pool.k.", "attn_pool.v.")
_MLP = "blocks.{block}.mlp"
GATED = (  # gate and value of a SwiGLU in one matrix, or in two
    *(Rule(f"{_MLP}.{{packed}}.{leaf}", f"{_MLP}.{{packed}}.{leaf}") for leaf in ("weight", "bias")),
    Rule(f"{_MLP}.fc1_{{gate}}.weight", f"{_MLP}.fc1.weight", "gate o i -> (gate o) i"),
    Rule(f"{_MLP}.fc1_{{gate}}.bias", f"{_MLP}.fc1.bias", "gate o -> (gate o)"),
)
RULES = (
    *(Rule(name, name) for name in HUB if not name.startswith((*_PACKED, f"{_MLP}.fc1."))),
    *GATED,
    Rule("attn_pool.kv.weight", "attn_pool.{kv}.weight", "(kv o) i -> kv o i"),
    Rule("attn_pool.kv.bias", "attn_pool.{kv}.bias", "(kv o) -> kv o"),
)


def holes(gated_apart: bool) -> Mapping[str, Spelling]:
    """Whether a SwiGLU's gate and value are two matrices."""
    return {"kv": ("k", "v"), "packed": () if gated_apart else ("fc1",), "gate": ("g", "x") if gated_apart else ()}


# (norm, eps, mlp) -> an architecture whose code says so; model_args can say the rest.
CODE = {
    ("layer", 1e-6, "mlp"): "vit_base_patch16_224",
    ("layer", 1e-5, "mlp"): "vit_base_patch16_clip_224",
    ("layer", 1e-6, "swiglu"): "vit_giant_patch14_dinov2",
    ("rms", 1e-6, "mlp"): "vit_base_patch16_224",
    ("rms", 1e-6, "swiglu"): "vit_giant_patch14_dinov2",
    ("rms", 1e-5, "swiglu"): "aimv2_large_patch14_224",
}
UNPACKED = "blocks.0.mlp.fc1_g.weight"
DISTILLED = "deit_base_distilled_patch16_224"


def conflicts(config: ViTConfig) -> list[str]:
    """What timm can't express, beyond single fields."""
    allowed: dict[str, tuple[Any, ...]] = {
        "patch_bias": (not config.pre_norm,),
        "mlp_bias": (config.proj_bias,),
        "dist_token": (config.pool == "class_dist",),
    }
    if config.pool == "class_dist":
        allowed |= {"pos_embed": ("learned",), "pos_prefix": ("class",), "num_registers": (0,)}
        allowed |= {"norm_eps": (1e-6,), "mlp": ("mlp",)}
    elif config.num_registers and config.pos_embed == "learned":
        allowed["pos_prefix"] = ("none", "all")
    if config.pool == "map":
        allowed["mlp"] = ("mlp",)
    why = {"patch_bias": "pre_norm", "mlp_bias": "proj_bias", "pos_prefix": "num_registers"}
    if config.pool == "class_dist":
        del why["pos_prefix"]
    if config.norm_eps != 1e-6:  # the code's own is all there is: timm makes one by its name with 1e-6
        allowed["patch_norm"] = (gated_apart(config.to_dict()),)
        why["patch_norm"] = "norm_eps"
    problems = []
    for name, values in allowed.items():
        other = why.get(name, "pool")
        problems += outside(config, name, values, f" with {other} {getattr(config, other)!r}")
    coded = tuple(eps for norm, eps, mlp in CODE if (norm, mlp) == (config.norm, config.mlp))
    return problems + outside(config, "norm_eps", coded, f" with norm {config.norm!r} and mlp {config.mlp!r}")


def write(config: ViTConfig, preprocess: Preprocess | None, labels: tuple[str, ...] | None) -> Files:
    """The config.json of the architecture that this config is, or of one with the same code."""
    return timm_config.write(config, architecture(config), write_args(config), preprocess, labels)


def architecture(config: ViTConfig) -> str:
    """The preset that this config is, or an architecture with the same code."""
    other = DISTILLED if config.pool == "class_dist" else CODE[config.norm, config.norm_eps, config.mlp]
    return timm_config.architecture(config, TIMM_VIT) or other


def read(config: Json, beside: Beside) -> Described:
    """A config.json of VisionTransformer: the architecture's code, and what model_args change in it."""
    return timm_config.read(config, TIMM_VIT, read_args)


def recognise(names: Collection[str]) -> Mapping[str, Spelling] | None:
    """timm's names are the hub's, but for a packed attention pool and a SwiGLU in two matrices."""
    plain = "patch_embed.proj.weight" in names and "blocks.0.attn.qkv.weight" in names
    other = ("attn_pool.k.weight", "blocks.0.attn.q_bias", "blocks.0.gamma_1")
    return holes(UNPACKED in names) if plain and not any(name in names for name in other) else None


TIMM = Layout(
    name="timm:vit",
    summary='VisionTransformer: timm.create_model("local-dir:DIR", pretrained=True)',
    rules=RULES,
    recognise=recognise,
    spell=lambda config: holes(gated_apart(config.to_dict())),
    owns=lambda config: isinstance(config.get("architecture"), str) and config["architecture"] not in TIMM_EVA,
    read=read,
    write=write,
    limits={
        "pos_embed": ("learned", "none"),
        "qkv_bias": ("all", "none"),
        "head_bias": (True,),
        "pool": ("class", "mean", "map", "class_dist"),
        "pre_logits": (0,),
        "rope": ("none",),
    },
    conflicts=conflicts,
    adapts=(fold_prefix_positions, zero_key_bias, zero_head_bias, zero_patch_bias),
)
