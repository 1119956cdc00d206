"""timm's Eva: EVA, EVA-02 and DINOv3 as timm has them.

References:
    https://github.com/huggingface/pytorch-image-models timm/models/eva.py
"""

from collections.abc import Collection, Mapping
from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.layouts import timm_config
from vit_convert.layouts.base import Beside, Described, Files, Json, Layout, outside
from vit_convert.layouts.timm import RULES as VIT_RULES
from vit_convert.layouts.timm import holes as vit_holes
from vit_convert.layouts.timm_eva_args import read_args, unfused, unpacked, write_args
from vit_convert.preprocess import Preprocess
from vit_convert.presets import TIMM_EVA, TIMM_VIT
from vit_convert.rules import Rule, Spelling
from vit_convert.steps import fold_prefix_positions, zero_head_bias, zero_patch_bias

BLOCK = "blocks.{block}"
ATTN = f"{BLOCK}.attn"
_OWN = (".ls1.", ".ls2.", ".qkv.", ".q_bias", ".v_bias")  # named otherwise, or in two ways
RULES = (
    *(rule for rule in VIT_RULES if not (rule.left.startswith(BLOCK) and any(own in rule.left for own in _OWN))),
    Rule(f"{BLOCK}.gamma_1", f"{BLOCK}.ls1.gamma"),
    Rule(f"{BLOCK}.gamma_2", f"{BLOCK}.ls2.gamma"),
    # One projection for query, key and value, or three.
    Rule(f"{ATTN}.{{fused}}.weight", f"{ATTN}.{{fused}}.weight"),
    Rule(f"{ATTN}.{{bias}}_bias", f"{ATTN}.{{bias}}_bias"),
    Rule(f"{ATTN}.{{part}}_proj.weight", f"{ATTN}.qkv.weight", "part o i -> (part o) i"),
    Rule(f"{ATTN}.{{part_bias}}_proj.bias", f"{ATTN}.{{part_bias}}_bias"),
)

# What a model has to be for its attention pool to be ours: timm's pools all tokens, and its MLP is a GELU's.
POOLED_BY_MAP: dict[str, tuple[Any, ...]] = {"class_token": (False,), "num_registers": (0,), "mlp": ("mlp",)}

# eps -> an architecture whose code says so; model_args can say the rest.
CODE = {1e-6: "eva_giant_patch14_224", 1e-5: "vit_base_patch16_dinov3"}


def holes(apart: bool, gated_apart: bool) -> Mapping[str, Spelling]:
    """Whether the projections of query, key and value are three, and those of gate and value are two."""
    filled = {"part": "qkv", "part_bias": "qv"} if apart else {"fused": ("qkv",), "bias": "qv"}
    names = ("fused", "bias", "part", "part_bias")
    return {**vit_holes(gated_apart), **{name: tuple(filled.get(name, ())) for name in names}}


def recognise(names: Collection[str]) -> Mapping[str, Spelling] | None:
    """By what VisionTransformer lacks; or, with no biases and no layer scale, by no more than the config's word."""
    apart, gated_apart = "blocks.0.attn.q_proj.weight" in names, "blocks.0.mlp.fc1_g.weight" in names
    first = "patch_embed.proj.weight" in names and (apart or "blocks.0.attn.qkv.weight" in names)
    other = ("attn_pool.k.weight", "blocks.0.attn.qkv.bias", "blocks.0.ls1.gamma", "blocks.0.attn.k_proj.bias")
    if not first or any(name in names for name in other):
        return None
    return holes(apart, gated_apart)


def conflicts(config: ViTConfig) -> list[str]:
    """What Eva can't express, beyond single fields."""
    allowed: dict[str, tuple[tuple[Any, ...], str]] = {
        "patch_bias": ((not config.pre_norm,), "pre_norm"),
        "act": (("gelu",) if config.mlp == "mlp" else ("silu",), "mlp"),
    }
    if config.num_registers and config.pos_embed == "learned":
        allowed["pos_prefix"] = (("none", "all"), "num_registers")
    if config.pool == "map":
        allowed |= {name: (values, "pool") for name, values in POOLED_BY_MAP.items()}
    problems: list[str] = []
    for name, (values, other) in allowed.items():
        problems += outside(config, name, values, f" with {other} {getattr(config, other)!r}")
    rounded = ": timm's are exact; --set rope_round_periods=none takes that, nearly the same function"
    return problems + outside(config, "rope_round_periods", ("none",), rounded)


def write(config: ViTConfig, preprocess: Preprocess | None, labels: tuple[str, ...] | None) -> Files:
    """The config.json of the architecture that this config is, or of one with the same code."""
    name = timm_config.architecture(config, TIMM_EVA) or CODE[config.norm_eps]
    return timm_config.write(config, name, write_args(config), preprocess, labels)


def read(config: Json, beside: Beside) -> Described:
    """A config.json of Eva: the architecture's code, and what model_args change in it.

    Raises:
        CheckpointError: options that change the function in a way that ViTConfig has no field for, or an attention
            pool that isn't ours.
    """
    described = timm_config.read(config, TIMM_EVA, read_args)
    _check_pool(described.fields)
    return described


def _check_pool(fields: Mapping[str, Any]) -> None:
    if fields.get("pool") != "map":
        return
    odd = [f"{name} {fields[name]!r}" for name, values in POOLED_BY_MAP.items() if fields[name] not in values]
    if odd:
        raise CheckpointError(
            f"config.json: timm's Eva with global_pool 'map' is not read with {', '.join(odd)}: it pools class and "
            "register tokens too, with a GELU in the pool's MLP; the pool here takes patches alone, and the blocks' MLP"
        )


EVA = Layout(
    name="timm:eva",
    summary='Eva (EVA, EVA-02, DINOv3): timm.create_model("local-dir:DIR", pretrained=True)',
    rules=RULES,
    recognise=recognise,
    spell=lambda config: holes(unfused(config), unpacked(config)),
    owns=lambda config: isinstance(config.get("architecture"), str) and config["architecture"] not in TIMM_VIT,
    read=read,
    write=write,
    limits={
        "dist_token": (False,),
        "pos_embed": ("learned", "none"),
        "norm": ("layer",),
        "patch_norm": (False,),
        "norm_eps": tuple(CODE),
        "qkv_bias": ("qv", "none"),
        "proj_bias": (True,),
        "mlp_bias": (True,),
        "head_bias": (True,),
        "pool": ("class", "mean", "map"),
        "pre_logits": (0,),
    },
    conflicts=conflicts,
    adapts=(fold_prefix_positions, zero_head_bias, zero_patch_bias),
)
