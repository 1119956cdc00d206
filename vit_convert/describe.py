"""Config fields that names and shapes tell, from a model's hub names and shapes."""

from collections.abc import Mapping
from typing import Any

from vit_convert.config import grid_of
from vit_convert.rules import Shape

BLOCK = "blocks.0"


def describe(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Hub names and shapes -> every ViTConfig field that they tell; nothing here is a guess.

    `pos_prefix` is not among them: it takes an image size, see `pos_prefix`.
    """
    fields: dict[str, Any] = {
        "class_token": "cls_token" in shapes,
        "dist_token": "dist_token" in shapes,
        "num_registers": shapes["reg_token"][1] if "reg_token" in shapes else 0,
        "depth": len({name.split(".")[1] for name in shapes if name.startswith("blocks.")}),
        "pre_norm": "norm_pre.weight" in shapes,
        "final_norm": "tokens" if "norm.weight" in shapes else "pooled" if "fc_norm.weight" in shapes else "none",
        "patch_bias": "patch_embed.proj.bias" in shapes,
    }
    if "pos_embed" in shapes:  # without a table, positions may be none or fixed
        fields["pos_embed"] = "learned"
    if "patch_embed.proj.weight" in shapes:
        fields["dim"], fields["in_channels"], *patch = shapes["patch_embed.proj.weight"]
        fields["patch_size"] = tuple(patch)
    return fields | _block(shapes) | _head(shapes, fields)


def pos_prefix(fields: Mapping[str, Any], rows: int) -> str:
    """Which prefix tokens have rows in a learned table of so many rows, at the fields' image size."""
    height, width = grid_of(fields["image_size"], fields["patch_size"])
    first = fields["class_token"] + fields["dist_token"]
    prefixes = {0: "none", first: "class", first + fields["num_registers"]: "all"}
    return prefixes.get(rows - height * width, "class")  # a wrong number of rows is reported as a shape


def _block(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    qkv = {f"{BLOCK}.attn.qkv.bias": "all", f"{BLOCK}.attn.q_bias": "qv"}
    fields: dict[str, Any] = {
        "norm": "layer" if f"{BLOCK}.norm1.bias" in shapes else "rms",
        "qkv_bias": next((kind for name, kind in qkv.items() if name in shapes), "none"),
        "proj_bias": f"{BLOCK}.attn.proj.bias" in shapes,
        "mlp_bias": f"{BLOCK}.mlp.fc2.bias" in shapes,
        "qk_norm": f"{BLOCK}.attn.q_norm.weight" in shapes,
        "attn_norm": f"{BLOCK}.attn.norm.weight" in shapes,
        "mlp_norm": f"{BLOCK}.mlp.norm.weight" in shapes,
        "layer_scale": f"{BLOCK}.ls1.gamma" in shapes,
    }
    fc1, fc2 = shapes.get(f"{BLOCK}.mlp.fc1.weight"), shapes.get(f"{BLOCK}.mlp.fc2.weight")
    if fc1 and fc2:
        fields |= {"mlp_dim": fc2[1], "mlp": "swiglu" if fc1[0] == 2 * fc2[1] else "mlp"}
    if fields["qk_norm"] and fc2:
        fields["num_heads"] = fc2[0] // shapes[f"{BLOCK}.attn.q_norm.weight"][0]
    return fields


def _head(shapes: Mapping[str, Shape], fields: Mapping[str, Any]) -> dict[str, Any]:
    head, hidden = shapes.get("head.weight"), shapes.get("pre_logits.weight")
    told: dict[str, Any] = {
        "num_classes": head[0] if head else 0,
        "pre_logits": hidden[0] if hidden else 0,
        "head_bias": "head.bias" in shapes or not head,
    }
    pooled = hidden or head
    if "attn_pool.latent" in shapes:
        told["pool"] = "map"
    elif "head_dist.weight" in shapes:
        told["pool"] = "class_dist"
    elif pooled and "dim" in fields and pooled[1] == 2 * fields["dim"]:
        told["pool"] = "class_mean"
    elif fields["final_norm"] == "pooled" or not fields["class_token"]:
        told["pool"] = "mean"
    return told
