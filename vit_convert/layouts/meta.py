"""What the layouts of Meta's repositories share: facts that their code fixes, sizes that their builders have."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from vit_convert.config import ViTConfig
from vit_convert.describe import describe, square_image
from vit_convert.layouts.base import Described, Files, outside, resizing
from vit_convert.layouts.native import ours
from vit_convert.preprocess import Preprocess
from vit_convert.presets import PRESETS
from vit_convert.rules import Rule, Shape, Spelling
from vit_convert.steps import (
    fold_prefix_positions,
    zero_head_bias,
    zero_key_bias,
    zero_patch_bias,
    zero_prefix_positions,
)

Sizes = Mapping[tuple[int, int, int], tuple[int, str]]  # dim, depth, patch -> num_heads, who has them

# What all of their classes do.
ENCODER: Mapping[str, tuple[Any, ...]] = {
    "class_token": (True,),
    "norm": ("layer",),
    "patch_norm": (False,),
    "pre_norm": (False,),
    "qk_norm": (False,),
    "attn_norm": (False,),
    "mlp_norm": (False,),
    "patch_bias": (True,),
    "qkv_bias": ("all", "none"),
    "head_bias": (True,),
    "pre_logits": (0,),
}
# The older ones: a learned table, one width of norm and activation.
PLAIN = {
    **ENCODER,
    "num_registers": (0,),
    "pos_embed": ("learned",),
    "rope": ("none",),
    "norm_eps": (1e-6,),
    "act": ("gelu",),
    "mlp": ("mlp",),
    "proj_bias": (True,),
    "mlp_bias": (True,),
}
BIASES = (zero_key_bias, zero_patch_bias, zero_head_bias)
CLASS_ROW, NO_CLASS_ROW = (zero_prefix_positions, *BIASES), (fold_prefix_positions, *BIASES)


BLOCK = "blocks.{block}"
ATTENTION = {f"{BLOCK}.{name}": f"{BLOCK}.{name}" for name in ("norm1", "attn.qkv", "attn.proj", "norm2")}
MLP = {f"{BLOCK}.mlp.{name}": f"{BLOCK}.mlp.{name}" for name in ("fc1", "fc2")}
EMBED = {"patch_embed.proj": "patch_embed.proj"}
TOKENS = (Rule("cls_token", "cls_token"), Rule("pos_embed", "pos_embed"))


def recognise_plain(shapes: Mapping[str, Shape]) -> Mapping[str, Spelling] | None:
    """By names that are timm's too: what stands aside, or config.json, tells DINO's, DeiT's and MAE's from them."""
    plain = "patch_embed.proj.weight" in shapes and "blocks.0.norm1.weight" in shapes
    return {} if plain and "blocks.0.ls1.gamma" not in shapes else None


def together(evaluation: str, *parts: Described) -> Described:
    """All that several sources say; and whose evaluation prepares the images, empty where that is unknown."""
    fields = {name: value for part in parts for name, value in part.fields.items()}
    sources = {name: source for part in parts for name, source in part.sources.items()}
    hint = "; ".join(part.hint for part in parts if part.hint)
    return Described(fields, hint=hint, sources=sources, evaluation=evaluation)


def square(who: str, hub: Mapping[str, Shape], prefix: int) -> Described:
    """The image size, from the number of rows: these repositories' tables are of square images with square patches.

    Args:
        prefix: rows of the table that belong to no patch.
    """
    size = square_image(hub, prefix)
    if size is None or size[0] != size[1]:
        return Described()
    return Described({"image_size": size}, sources={"image_size": f"names and shapes, as {who}'s images are square"})


def built(who: str, sizes: Sizes, hub: Mapping[str, Shape]) -> Described:
    """The number of heads, where the repository builds one model of this width, depth and patch."""
    told = describe(hub)
    patch = told.get("patch_size", (0, 0))
    found = sizes.get((told.get("dim", 0), told["depth"], patch[0])) if patch[0] == patch[1] else None
    if found is None:
        return Described(hint=f"it is {who}'s, of a size that its repository doesn't build")
    return Described({"num_heads": found[0]}, sources={"num_heads": f"signature of {found[1]}"})


def sizes_of(origin: str) -> Sizes:
    """Those of the presets that are of a repository; of several of one size, the first gives its name."""
    sizes: dict[tuple[int, int, int], tuple[int, str]] = {}
    for name, preset in PRESETS.items():
        if preset.origin == origin:
            config = preset.config
            sizes.setdefault((config.dim, config.depth, config.patch_hw[0]), (config.num_heads, name))
    return sizes


def writer(layout: str, who: str, resizes: Callable[[ViTConfig], str]) -> Callable[..., Files]:
    """The writer of our config.json, which says where the family's code resizes positions by another rule."""

    def write(config: ViTConfig, preprocess: Preprocess | None, labels: tuple[str, ...] | None) -> Files:
        files = ours(layout)(config, preprocess, labels)
        return replace(files, notes=(*files.notes, *resizing(f"{who}'s code", resizes(config), config)))

    return write


def only_squares(config: ViTConfig) -> list[str]:
    """Problems of an image or a patch that is no square."""
    sizes = {"image_size": config.image_hw, "patch_size": config.patch_hw}
    return [f"{name} {size[0]}x{size[1]}: only squares" for name, size in sizes.items() if size[0] != size[1]]


def only_with(config: ViTConfig, given: str, **allowed: tuple[Any, ...]) -> list[str]:
    """Problems of fields that may have only these values, given another field's."""
    why = f" with {given} {getattr(config, given)!r}"
    return [problem for name, values in allowed.items() for problem in outside(config, name, values, why)]


def mlp_and_head(config: ViTConfig) -> list[str]:
    """Problems of what DINOv2's and DINOv3's code makes of other fields: their SwiGLU, and their classifier's input."""
    swiglu = config.mlp == "swiglu"
    problems = only_with(config, "mlp", act=("silu" if swiglu else "gelu",))
    problems += only_with(config, "num_classes", pool=("class_mean" if config.num_classes else "class",))
    if swiglu and config.mlp_dim % 8:
        problems.append(f"mlp_dim {config.mlp_dim}: only multiples of 8 with mlp 'swiglu'")
    return problems


def zeros(*shape: str) -> Callable[[ViTConfig], np.ndarray]:
    """Makes a spare tensor of zeros: (1, "dim") and the like, by names of config fields."""
    return lambda config: np.zeros([1 if name == "1" else getattr(config, name) for name in shape], np.float32)
