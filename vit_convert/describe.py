"""Config fields that names and shapes tell, from a model's hub names and shapes."""

from collections.abc import Mapping
from math import isqrt
from typing import Any

from vit_convert.config import grid_of
from vit_convert.rules import Shape


def describe(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Hub names and shapes -> every ViTConfig field that they tell; nothing here is a guess.

    `pos_prefix` is not among them: it takes an image size, see `pos_prefix`. Tensors that are missing or have
    another number of axes tell nothing: whoever checks them against the config lists them.
    """
    registers = _first(shapes, 3, "reg_token")
    fields: dict[str, Any] = {
        "class_token": "cls_token" in shapes,
        "dist_token": "dist_token" in shapes,
        "num_registers": registers[1] if registers else 0,
        "depth": depth_of(shapes),
        "patch_norm": "patch_embed.norm.weight" in shapes,
        "pre_norm": "norm_pre.weight" in shapes,
        "final_norm": "tokens" if "norm.weight" in shapes else "pooled" if "fc_norm.weight" in shapes else "none",
        "patch_bias": "patch_embed.proj.bias" in shapes,
    }
    if "pos_embed" in shapes:  # without a table, positions may be none or fixed
        fields["pos_embed"] = "learned"
    if patch_embed := _first(shapes, 4, "patch_embed.proj.weight"):
        fields |= {"dim": patch_embed[0], "in_channels": patch_embed[1], "patch_size": patch_embed[2:]}
    fields |= _block(shapes)
    return fields | _head(shapes, fields)


def depth_of(shapes: Mapping[str, Shape]) -> int:
    """The number of blocks among hub names: of those that are there, wherever one is missing."""
    return len({name.split(".")[1] for name in shapes if name.startswith("blocks.")})


def square_image(shapes: Mapping[str, Shape], prefix: int) -> tuple[int, int] | None:
    """(height, width) in pixels of the images whose patches are a square grid; None where the table's rows aren't one.

    Args:
        shapes: hub names and shapes.
        prefix: rows of the table that belong to no patch.
    """
    table, kernel = _first(shapes, 3, "pos_embed"), _first(shapes, 4, "patch_embed.proj.weight")
    if table is None or kernel is None or table[1] <= prefix:
        return None
    side = isqrt(table[1] - prefix)
    return (side * kernel[2], side * kernel[3]) if side**2 == table[1] - prefix else None


def pos_prefix(fields: Mapping[str, Any], table: Shape) -> str:
    """Which prefix tokens have rows in a learned table (1, rows, dim), at the fields' image size."""
    height, width = grid_of(fields["image_size"], fields["patch_size"])
    first = fields["class_token"] + fields["dist_token"]
    prefixes = {0: "none", first: "class", first + fields["num_registers"]: "all"}
    rows = table[1] if len(table) == 3 else 0
    return prefixes.get(rows - height * width, "class")  # a wrong number of rows is reported as a shape


def _block(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    # Of all blocks together: where one lacks what the others have, that is a missing tensor, not another model.
    inside = {name.split(".", 2)[2] for name in shapes if name.startswith("blocks.")}
    qkv = {"attn.qkv.bias": "all", "attn.q_bias": "qv"}
    fields: dict[str, Any] = {
        "norm": "layer" if "norm1.bias" in inside else "rms",
        "qkv_bias": next((kind for name, kind in qkv.items() if name in inside), "none"),
        "proj_bias": "attn.proj.bias" in inside,
        "mlp_bias": "mlp.fc2.bias" in inside,
        "qk_norm": "attn.q_norm.weight" in inside,
        "attn_norm": "attn.norm.weight" in inside,
        "mlp_norm": "mlp.norm.weight" in inside,
        "layer_scale": "ls1.gamma" in inside,
    }
    fc1, fc2, q_norm = (
        _first(shapes, axes, *(name for name in shapes if name.startswith("blocks.") and name.endswith(end)))
        for axes, end in ((2, ".mlp.fc1.weight"), (2, ".mlp.fc2.weight"), (1, ".attn.q_norm.weight"))
    )
    if fc1:  # without any fc2 this is a guess that the missing fc2 gives away
        mlp_dim = fc2[1] if fc2 else fc1[0]
        fields |= {"dim": fc1[1], "mlp_dim": mlp_dim, "mlp": "swiglu" if fc1[0] == 2 * mlp_dim else "mlp"}
    if fc1 and q_norm and q_norm[0]:
        fields["num_heads"] = fc1[1] // q_norm[0]
    return fields


def _head(shapes: Mapping[str, Shape], fields: Mapping[str, Any]) -> dict[str, Any]:
    head, hidden = _first(shapes, 2, "head.weight"), _first(shapes, 2, "pre_logits.weight")
    classes, width = head or _first(shapes, 1, "head.bias"), hidden or _first(shapes, 1, "pre_logits.bias")
    told: dict[str, Any] = {
        "num_classes": classes[0] if classes else 0,
        "pre_logits": width[0] if width else 0,
        "head_bias": "head.bias" in shapes or not head,
    }
    pooled = hidden or head
    if "attn_pool.latent" in shapes:
        told["pool"] = "map"
    elif "head_dist.weight" in shapes:
        told["pool"] = "class_dist"
    elif pooled and "dim" in fields and pooled[1] == 2 * fields["dim"]:
        told["pool"] = "class_mean"
    elif not fields["class_token"]:  # fc_norm alone tells nothing: timm may have it behind the class token too
        told["pool"] = "mean"
    return told


def _first(shapes: Mapping[str, Shape], axes: int, *names: str) -> Shape | None:
    """The shape of the first of these tensors that is there with so many axes."""
    return next((shapes[name] for name in names if len(shapes.get(name, ())) == axes), None)
