"""timm's `model_args` of Eva, as ViTConfig fields and back.

References:
    https://github.com/huggingface/pytorch-image-models timm/models/eva.py
"""

from collections.abc import Mapping
from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.layouts.base import Json
from vit_convert.layouts.timm_args import prefix_rows, ratio
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
    "scale_attn_inner": "attn_norm",
    "scale_mlp": "mlp_norm",
    "class_token": "class_token",
    "num_reg_tokens": "num_registers",
    "use_pre_transformer_norm": "pre_norm",
}
# Only how tensors are held, which their names tell, and what training draws.
NAMES_TELL = ("qkv_fused", "swiglu_align_to", "head_init_scale")
NAMES_TELL += ("rope_shift_coords", "rope_jitter_coords", "rope_rescale_coords")
# Options by whose null a model lacks what its architecture's code has.
NULLS: dict[str, Json] = {"init_values": {"layer_scale": False}, "ref_feat_shape": {"rope_ref_grid": None}}
# The options of rotary positions, as each kind has them.
ROPE = {
    "none": {"use_rot_pos_emb": False},
    "dinov3": {"use_rot_pos_emb": True, "rope_type": "dinov3", "rope_rotate_half": True},
    "eva02": {"use_rot_pos_emb": True, "rope_type": "cat", "rope_rotate_half": False},
}


def unfused(config: ViTConfig) -> bool:
    """Whether query, key and value have projections of their own: as the larger EVA-02 have."""
    return config.mlp == "swiglu" and config.mlp_norm


def unpacked(config: ViTConfig) -> bool:
    """Whether gate and value have: as the larger EVA-02 and DINOv3 have."""
    return config.mlp == "swiglu" and (config.mlp_norm or config.rope == "dinov3")


def write_args(config: ViTConfig) -> Json:
    """Every option by which this model differs from an architecture with the same eps."""
    args = {theirs: getattr(config, ours) for theirs, ours in SAME.items() if theirs != "num_classes"}
    args |= {
        "img_size": list(config.image_hw),
        "patch_size": list(config.patch_hw),
        "mlp_ratio": ratio(config.dim, config.mlp_dim),
        "swiglu_mlp": config.mlp == "swiglu",
        "swiglu_align_to": int(unpacked(config)),  # 1: gate and value apart, the width as it is
        "qkv_bias": config.qkv_bias == "qv",
        "qkv_fused": not unfused(config),
        "init_values": 1e-5 if config.layer_scale else None,  # only whether there is one matters to trained weights
        "use_abs_pos_emb": config.pos_embed == "learned",
        "no_embed_class": config.pos_embed == "learned" and config.pos_prefix == "none",
        "use_post_transformer_norm": config.final_norm == "tokens",
        "use_fc_norm": config.final_norm == "pooled",
        **ROPE[config.rope],
    }
    if config.rope != "none":
        args["rope_temperature"] = config.rope_theta
    if config.rope == "eva02":
        args["ref_feat_shape"] = [config.rope_ref_grid] * 2
    return args


def read_args(args: Json, code: Json) -> Json:
    """The fields that model_args change in an architecture's own: None where they leave it to the tensors.

    Raises:
        CheckpointError: options or values that ViTConfig has no field for; all are named. Or rotary positions without
            the grid that they are scaled to.
    """
    taken_away = [gone for name, gone in NULLS.items() if name in args and args[name] is None]
    args = {name: value for name, value in args.items() if value is not None and name not in NAMES_TELL}
    if {"rope_type", "use_rot_pos_emb"} & set(args):  # which half is turned is an option of its own, that stays
        args = {"rope_rotate_half": code["rope"] == "dinov3"} | args
    fields = read_options(args, code, READERS)
    for gone in taken_away:
        fields |= gone
    fields |= _implied(args, fields, code)
    if fields.get("rope", code["rope"]) == "eva02" and fields.get("rope_ref_grid", code["rope_ref_grid"]) is None:
        raise CheckpointError(
            "config.json: rotary positions of rope_type 'cat' are read with a ref_feat_shape alone, and there is none: "
            "then timm counts patches as they come, which no config says"
        )
    return fields


def _implied(args: Json, fields: Json, code: Mapping[str, Any]) -> Json:
    """What follows in timm's code from options that were given."""
    # Ratios are rounded in several ways: the shapes tell what came of it.
    implied: Json = {"mlp_dim": None} if {"embed_dim", "mlp_ratio", "swiglu_mlp"} & set(args) else {}
    if "pre_norm" in fields:
        implied["patch_bias"] = not fields["pre_norm"]
    if {"use_fc_norm", "use_post_transformer_norm"} & set(args) or fields.get("pool", code["pool"]) != code["pool"]:
        implied["final_norm"] = _final_norm(args)
    rope = fields.get("rope", code["rope"])
    if rope == "none":
        implied |= {"rope_theta": None}
    if rope != "eva02":
        implied |= {"rope_ref_grid": None}
    return implied | prefix_rows(args, fields, code)


def _final_norm(args: Json) -> str | None:
    """Where the last norm stands, if both options are there; None: only the tensors' names tell."""
    known: dict[Any, str] = {(True, False): "tokens", (False, True): "pooled", (False, False): "none"}
    return known.get((args.get("use_post_transformer_norm"), args.get("use_fc_norm")))


def _read_rope(value: bool, fields: Mapping[str, Any]) -> Json:
    if value and fields["rope"] == "none":  # timm's defaults
        return {"rope": "eva02", "rope_theta": 10_000, "rope_ref_grid": None}
    return {"rope": fields["rope"] if value else "none"}


def _read_rope_type(value: str, fields: Mapping[str, Any]) -> Json:
    kind = {"cat": "eva02", "dinov3": "dinov3"}[value]
    if fields["rope"] in ("none", kind):  # timm's code has no use for it, or has it already
        return {}
    return {"rope": kind, "rope_ref_grid": None}


def _read_rotate_half(value: bool, fields: Mapping[str, Any]) -> Json:
    return {(True, "dinov3"): {}, (False, "eva02"): {}}[value, fields["rope"]] if fields["rope"] != "none" else {}


def _read_grid(value: Any, fields: Mapping[str, Any]) -> Json:
    rows, columns = value if isinstance(value, list) else (value, value)
    return {"rope_ref_grid": {rows: rows}[columns]}


READERS: dict[str, Reader] = {
    **{theirs: same(ours) for theirs, ours in SAME.items()},
    "global_pool": lambda v, f: {"pool": POOLS[v]},
    "mlp_ratio": lambda v, f: {},
    "swiglu_mlp": lambda v, f: {"mlp": "swiglu", "act": "silu"} if v else {"mlp": "mlp", "act": "gelu"},
    "qkv_bias": lambda v, f: {"qkv_bias": "qv" if v else "none"},
    "init_values": lambda v, f: {"layer_scale": True},
    "use_abs_pos_emb": lambda v, f: {"pos_embed": "learned" if v else "none"},
    "no_embed_class": lambda v, f: {"pos_prefix": "none" if v else "all"},
    "use_fc_norm": lambda v, f: {},
    "use_post_transformer_norm": lambda v, f: {},
    "use_rot_pos_emb": _read_rope,
    "rope_type": _read_rope_type,
    "rope_rotate_half": _read_rotate_half,
    "rope_temperature": same("rope_theta"),
    "ref_feat_shape": _read_grid,
    "rope_grid_offset": only(0),
    "rope_grid_indexing": only("ij"),
    "attn_type": only("eva"),
    "attn_only_layer_scale": only(False),
    "use_post_norm": only(False),
    "dynamic_img_pad": only(False),
}
