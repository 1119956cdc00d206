"""torchvision's VisionTransformer: vit_b_16, vit_b_32, vit_l_16, vit_l_32, vit_h_14.

References:
    https://github.com/pytorch/vision torchvision/models/vision_transformer.py
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.describe import depth_of, square_image
from vit_convert.layouts.base import LEAVES, Bare, Described, Files, Layout, coded, layer_rules, outside, resizing
from vit_convert.layouts.native import ours
from vit_convert.preprocess import Preprocess
from vit_convert.processors.known import TORCHVISION as EVALUATIONS
from vit_convert.rules import Rule, Spelling

LAYER, BLOCK = "encoder.layers.encoder_layer_{block}", "blocks.{block}"
LAYERS = {
    "conv_proj": "patch_embed.proj",
    f"{LAYER}.ln_1": f"{BLOCK}.norm1",
    f"{LAYER}.self_attention.out_proj": f"{BLOCK}.attn.proj",
    f"{LAYER}.ln_2": f"{BLOCK}.norm2",
    f"{LAYER}.mlp.{{first}}": f"{BLOCK}.mlp.fc1",
    f"{LAYER}.mlp.{{second}}": f"{BLOCK}.mlp.fc2",
    "encoder.ln": "norm",
    "heads.pre_logits": "pre_logits",  # both are tanh of a linear layer
    "heads.head": "head",
}
RULES = (
    Rule("class_token", "cls_token"),
    Rule("encoder.pos_embedding", "pos_embed"),
    *(Rule(f"{LAYER}.self_attention.in_proj_{leaf}", f"{BLOCK}.attn.qkv.{leaf}") for leaf in LEAVES),
    *layer_rules(LAYERS),
)
# The MLP is a Sequential; files before torchvision 0.14 name its two layers.
NOW: Mapping[str, Spelling] = {"first": "0", "second": "3"}
BEFORE: Mapping[str, Spelling] = {"first": "linear_1", "second": "linear_2"}

# What the class does.
CODE: Mapping[str, Any] = {
    "in_channels": 3,
    "class_token": True,
    "dist_token": False,
    "num_registers": 0,
    "pos_embed": "learned",
    "pos_prefix": "class",
    "rope": "none",
    "norm": "layer",
    "norm_eps": 1e-6,
    "patch_norm": False,
    "pre_norm": False,
    "final_norm": "tokens",
    "qk_norm": False,
    "attn_norm": False,
    "mlp_norm": False,
    "layer_scale": False,
    "act": "gelu",
    "mlp": "mlp",
    "patch_bias": True,
    "qkv_bias": "all",
    "proj_bias": True,
    "mlp_bias": True,
    "head_bias": True,
    "pool": "class",
}
# dim, depth, patch -> the model that torchvision builds so, and its heads
MODELS = {
    (768, 12, 16): ("vit_b_16", 12),
    (768, 12, 32): ("vit_b_32", 12),
    (1024, 24, 16): ("vit_l_16", 16),
    (1024, 24, 32): ("vit_l_32", 16),
    (1280, 32, 14): ("vit_h_14", 16),
}


def recognise(names: Collection[str]) -> Mapping[str, Spelling] | None:
    if "encoder.layers.encoder_layer_0.self_attention.in_proj_weight" not in names:
        return None
    return BEFORE if "encoder.layers.encoder_layer_0.mlp.linear_1.weight" in names else NOW


def bare(file: Bare) -> Described:
    """What the code fixes; the image size, as the class takes squares only; the heads of its own five models."""
    fields = {"pos_resize": "bicubic_corners", **CODE}
    described = coded("torchvision", fields)
    size = square_image(file.hub, prefix=1)
    told: dict[str, Any] = {"image_size": size} if size else {}
    kernel = file.hub.get("patch_embed.proj.weight", ())
    sources = {**described.sources, **dict.fromkeys(told, "names and shapes: torchvision's images are square")}
    model = (kernel[0], depth_of(file.hub), kernel[2]) if len(kernel) == 4 else None
    if model in MODELS:
        name, told["num_heads"] = MODELS[model]
        sources["num_heads"] = f"signature of {name}"
    published = re.fullmatch(r"(\w+)-[0-9a-f]{8}", file.name)  # vit_b_16_swag-9ac1b537: weights, and their hash
    evaluation = f"torchvision/{published[1]}" if published and published[1] in EVALUATIONS else ""
    return Described({**described.fields, **told}, sources=sources, evaluation=evaluation)


def conflicts(config: ViTConfig) -> list[str]:
    """What the class can't hold, beyond single fields."""
    squares = [
        f"{name} {size[0]}x{size[1]}: only squares"
        for name, size in (("image_size", config.image_hw), ("patch_size", config.patch_hw))
        if size[0] != size[1]
    ]
    return squares + ([] if config.num_classes else outside(config, "pre_logits", (0,), " with num_classes 0"))


def write(config: ViTConfig, preprocess: Preprocess | None, labels: tuple[str, ...] | None) -> Files:
    """Our config.json: torchvision has none."""
    notes = resizing("torchvision's interpolate_embeddings", "bicubic_corners", config)
    if not config.num_classes:
        notes.append("there is no head: load it with model.heads = torch.nn.Identity()")
    return Files(ours("torchvision")(config, preprocess, labels).files, tuple(notes), {"format": "pt"})


TORCHVISION = Layout(
    name="torchvision",
    summary="torchvision.models.VisionTransformer(...).load_state_dict",
    rules=RULES,
    recognise=recognise,
    spell=lambda config: NOW,
    write=write,
    limits={name: (value,) for name, value in CODE.items()},
    conflicts=conflicts,
    bare=bare,
)
