"""timm's `model_args`: the options of VisionTransformer, as ViTConfig fields and back.

References:
    https://github.com/huggingface/pytorch-image-models timm/models/vision_transformer.py
"""

from collections.abc import Mapping
from math import nextafter
from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.layouts.base import Json
from vit_convert.layouts.timm_config import POOLS, Reader, only, read_options, same

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
NORMS = {"layer": "layernorm", "rms": "rmsnorm"}
ACTS = {name: name for name in ("gelu", "gelu_tanh", "quick_gelu", "silu")} | {"swish": "silu"}


def write_args(config: ViTConfig) -> Json:
    """Every option by which this model differs from an architecture with the same eps and MLP."""
    args = {theirs: getattr(config, ours) for theirs, ours in SAME.items() if theirs != "num_classes"}
    args |= {"img_size": list(config.image_hw), "patch_size": list(config.patch_hw)}
    args |= {
        "mlp_ratio": ratio(config.dim, config.mlp_dim * _width(config.to_dict())),
        "qkv_bias": config.qkv_bias == "all",
        "proj_bias": config.proj_bias,
        "init_values": 1e-5 if config.layer_scale else 0.0,  # only whether there is one matters to trained weights
        "pos_embed": "learn" if config.pos_embed == "learned" else "none",
        "no_embed_class": config.pos_embed == "learned" and config.pos_prefix == "none",
        "final_norm": config.final_norm != "none",
        "fc_norm": config.final_norm == "pooled",
        "act_layer": config.act,
    }
    if config.norm_eps != 1e-6:
        return args  # norms of that eps are in the architecture's code alone
    named = NORMS[config.norm]
    args |= {"norm_layer": named} if config.norm == "rms" else {}
    return args | ({"embed_norm_layer": named} if config.patch_norm else {})


def gated_apart(fields: Mapping[str, Any]) -> bool:
    """Whether timm has gate and value of a SwiGLU in two matrices: in AIMv2's code, which these fields tell."""
    return (fields["norm"], fields["norm_eps"], fields["mlp"]) == ("rms", 1e-5, "swiglu")


def _width(fields: Mapping[str, Any]) -> int:
    """How many mlp_dim timm's mlp_ratio counts: two where it makes gate and value together."""
    return 2 if fields["mlp"] == "swiglu" and not gated_apart(fields) else 1


def ratio(dim: int, width: int) -> float:
    """The mlp_ratio whose int(dim * ratio) is a width: timm truncates."""
    found = width / dim
    return found if int(dim * found) == width else nextafter(found, float("inf"))


def read_args(args: Json, code: Json) -> Json:
    """The fields that model_args change in an architecture's own: None where they leave it to the tensors.

    Raises:
        CheckpointError: options or values that ViTConfig has no field for; all are named.
    """
    args = {name: value for name, value in args.items() if value is not None}
    fields = read_options(args, code, READERS)
    _check_patch_norm(args, code | fields, code)
    return fields | _implied(args, fields, code)


def _check_patch_norm(args: Json, fields: Json, code: Json) -> None:
    """Refuses norms unlike that of the patches, which norm_layer leaves as the architecture's code has it."""
    kept = code["patch_norm"] and "embed_norm_layer" not in args
    if kept and any(fields[name] != code[name] for name in ("norm", "norm_eps")):
        raise CheckpointError(
            f"config.json: norm_layer {args['norm_layer']!r} makes norms of eps {fields['norm_eps']}, but that of the "
            f"patches stays {NORMS[code['norm']]} of eps {code['norm_eps']}, and one kind is read: expected "
            f"embed_norm_layer {args['norm_layer']!r} beside it, or neither of both"
        )


def _implied(args: Json, fields: Json, preset: Mapping[str, Any]) -> Json:
    """What follows in timm's code from options that were given."""
    # The architecture's ratio applies to another width: the shapes tell what came of it.
    implied: Json = {"mlp_dim": None} if "embed_dim" in args and "mlp_ratio" not in args else {}
    if "pre_norm" in fields:
        implied["patch_bias"] = not fields["pre_norm"]
    return (
        implied
        | prefix_rows(args, fields, preset)
        | _final_norm(args, fields.get("pool", preset["pool"]) != preset["pool"], preset["final_norm"])
    )


def prefix_rows(args: Json, fields: Json, code: Mapping[str, Any]) -> Json:
    """Which prefix tokens have rows of positions where other tokens or positions were asked for: None, the rows tell.

    Of an architecture without such tokens, or without a table, `pos_prefix` "none" doesn't say whether its code has
    no_embed_class.
    """
    changed = any(fields.get(name, code[name]) != code[name] for name in ("num_registers", "class_token", "pos_embed"))
    if not changed or "no_embed_class" in args:
        return {}
    return {"pos_prefix": None if code["pos_prefix"] == "none" else "all"}


def _final_norm(args: Json, other_pool: bool, own: str) -> Json:
    """Where the last norm stands; None where only the tensors' names tell.

    Without an fc_norm option timm moves it behind the pooling where that is a mean, unless an architecture's code has
    the option.
    """
    if not {"fc_norm", "final_norm"} & set(args) and not other_pool:
        return {}
    if not args.get("final_norm", own != "none"):
        return {"final_norm": "none"}
    return {"final_norm": {True: "pooled", False: "tokens", None: None}[args.get("fc_norm")]}


def _read_mlp_ratio(value: Any, fields: Mapping[str, Any]) -> Json:
    return {"mlp_dim": int(fields["dim"] * value) // _width(fields)}


def _read_norm(value: str) -> Json:
    kinds = {name: kind for kind, name in NORMS.items()}
    return {"norm": kinds[value.replace("_", "").lower()], "norm_eps": 1e-6}


def _read_patch_norm(value: str, fields: Mapping[str, Any]) -> Json:
    own = {name: fields[name] for name in ("norm", "norm_eps")}
    return {True: {"patch_norm": True}}[_read_norm(value) == own]  # one kind of norm for all


def _read_pool(value: str, fields: Mapping[str, Any]) -> Json:
    return {"pool": {"token": "class_dist"}[value] if fields["pool"] == "class_dist" else POOLS[value]}


READERS: dict[str, Reader] = {
    **{theirs: same(ours) for theirs, ours in SAME.items()},
    "pool_include_prefix": only(False),
    "dynamic_img_pad": only(False),
    "attn_layer": only("attn"),
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
    "embed_norm_layer": _read_patch_norm,
}
