"""timm's `model_args`: the options of VisionTransformer, as ViTConfig fields and back.

References:
    https://github.com/huggingface/pytorch-image-models timm/models/vision_transformer.py
"""

from collections.abc import Callable, Mapping
from math import nextafter
from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.layouts.base import Json

POOLS = {"token": "class", "avg": "mean", "map": "map"}

# model_args that leave the function of a trained model alone.
HARMLESS = {"weight_init", "fix_init", "dynamic_img_size", "strict_img_size", "drop_rate", "pos_drop_rate"}
HARMLESS |= {"patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate", "features_only", "pretrained"}
# model_arg -> ViTConfig field, where the value is the same.
SAME = {
    "img_size": "image_size",
    "patch_size": "patch_size",
    "in_chans": "in_channels",
    "num_classes": "num_classes",
    "embed_dim": "dim",
    "depth": "depth",
    "num_heads": "num_heads",
    "qk_norm": "qk_norm",
    "scale_attn_norm": "attn_norm",
    "scale_mlp_norm": "mlp_norm",
    "class_token": "class_token",
    "reg_tokens": "num_registers",
    "pre_norm": "pre_norm",
}
ACTS = {name: name for name in ("gelu", "gelu_tanh", "quick_gelu", "silu")} | {"swish": "silu"}
# Options that this reader knows in one value only.
ONLY = {"pool_include_prefix": False, "dynamic_img_pad": False, "attn_layer": "attn"}


def write_args(config: ViTConfig) -> Json:
    """Every option by which this model differs from an architecture with the same eps and MLP."""
    args = {theirs: getattr(config, ours) for theirs, ours in SAME.items() if theirs != "num_classes"}
    args |= {"img_size": list(config.image_hw), "patch_size": list(config.patch_hw)}
    args |= {
        "mlp_ratio": _ratio(config),
        "qkv_bias": config.qkv_bias == "all",
        "proj_bias": config.proj_bias,
        "init_values": 1e-5 if config.layer_scale else 0.0,  # only whether there is one matters to trained weights
        "pos_embed": "learn" if config.pos_embed == "learned" else "none",
        "no_embed_class": config.pos_embed == "learned" and config.pos_prefix == "none",
        "final_norm": config.final_norm != "none",
        "fc_norm": config.final_norm == "pooled",
        "act_layer": config.act,
    }
    return args | ({"norm_layer": "rmsnorm"} if config.norm == "rms" else {})


def _ratio(config: ViTConfig) -> float:
    """The mlp_ratio whose int(dim * ratio) is the width of fc1: timm truncates."""
    width = config.mlp_dim * (2 if config.mlp == "swiglu" else 1)
    ratio = width / config.dim
    return ratio if int(config.dim * ratio) == width else nextafter(ratio, float("inf"))


def read_args(args: Json, preset: Mapping[str, Any]) -> Json:
    """The fields that model_args change in an architecture's own.

    Raises:
        CheckpointError: options or values that ViTConfig has no field for; all are named.
    """
    args = {name: value for name, value in args.items() if value is not None and name not in HARMLESS}
    fields: Json = {}
    refused = {name: value for name, value in args.items() if name not in READERS}
    for name in [name for name in READERS if name in args]:
        try:
            fields |= READERS[name](args[name], {**preset, **fields})
        except (KeyError, TypeError, ValueError):
            refused[name] = args[name]
    if refused:
        raise CheckpointError(f"config.json: these model_args are not read: {refused}")
    return fields | _implied(args, fields, preset)


def _implied(args: Json, fields: Json, preset: Mapping[str, Any]) -> Json:
    """What follows in timm's code from options that were given."""
    implied: Json = {}
    if "pre_norm" in fields:
        implied["patch_bias"] = not fields["pre_norm"]
    if "num_registers" in fields and "no_embed_class" not in args and preset["pos_prefix"] != "none":
        implied["pos_prefix"] = "all"
    if {"fc_norm", "final_norm", "global_pool"} & set(args):
        # Without an fc_norm argument timm moves the norm behind the pooling where that is a mean.
        pooled = args.get("fc_norm", fields.get("pool", preset["pool"]) == "mean")
        implied["final_norm"] = "none" if not args.get("final_norm", True) else "pooled" if pooled else "tokens"
    return implied


def _read_mlp_ratio(value: Any, fields: Mapping[str, Any]) -> Json:
    width = int(fields["dim"] * value)
    return {"mlp_dim": width // 2 if fields["mlp"] == "swiglu" else width}


def _read_norm(value: str) -> Json:
    return {"norm": {"layernorm": "layer", "rmsnorm": "rms"}[value.replace("_", "").lower()], "norm_eps": 1e-6}


def _read_pool(value: str, fields: Mapping[str, Any]) -> Json:
    return {"pool": {"token": "class_dist"}[value] if fields["pool"] == "class_dist" else POOLS[value]}


def _same(field: str) -> Callable[[Any, Mapping[str, Any]], Json]:
    return lambda value, fields: {field: tuple(value) if isinstance(value, list) else value}


# model_arg -> the ViTConfig fields that it means, from its value and the fields so far. A KeyError: not read.
READERS: dict[str, Callable[[Any, Mapping[str, Any]], Json]] = {
    **{theirs: _same(ours) for theirs, ours in SAME.items()},
    **{name: lambda v, f, only=only: {only: {}}[v] for name, only in ONLY.items()},
    "fc_norm": lambda v, f: {},
    "final_norm": lambda v, f: {},
    "global_pool": _read_pool,
    "mlp_ratio": _read_mlp_ratio,
    "qkv_bias": lambda v, f: {"qkv_bias": "all" if v else "none"},
    "proj_bias": lambda v, f: {"proj_bias": v, "mlp_bias": v},
    "init_values": lambda v, f: {"layer_scale": bool(v)},
    "pos_embed": lambda v, f: {"pos_embed": {"learn": "learned", "none": "none", "": "none"}[v]},
    "no_embed_class": lambda v, f: {"pos_prefix": "none" if v else "all"},
    "act_layer": lambda v, f: {"act": ACTS[v]},
    "norm_layer": lambda v, f: _read_norm(v),
}
