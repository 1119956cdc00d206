"""DeiT: VisionTransformer and DistilledVisionTransformer of its repository.

References:
    https://github.com/facebookresearch/deit models.py, main.py (positions are resized when it fine-tunes)

Its names are timm's, so a file of it is taken for timm's unless config.json says that it is DeiT's.
"""

from collections.abc import Mapping

from vit_convert.config import ViTConfig
from vit_convert.layouts.base import Layout
from vit_convert.layouts.meta import (
    ATTENTION,
    CLASS_ROW,
    EMBED,
    MLP,
    PLAIN,
    TOKENS,
    layers,
    only_squares,
    only_with,
    writer,
)
from vit_convert.rules import Rule, Shape, Spelling

HEADS = {name: name for name in ("norm", "head", "head_dist")}


def recognise(shapes: Mapping[str, Shape]) -> Mapping[str, Spelling] | None:
    plain = "patch_embed.proj.weight" in shapes and "blocks.0.norm1.weight" in shapes
    return {} if plain and "blocks.0.ls1.gamma" not in shapes else None


def conflicts(config: ViTConfig) -> list[str]:
    """Two tokens have two heads, whose average is the answer."""
    return only_squares(config) + only_with(
        config, "dist_token", pool=("class_dist" if config.dist_token else "class",)
    )


DEIT = Layout(
    name="deit",
    summary="models.py of facebookresearch/deit: load_state_dict of the model",
    rules=(*TOKENS, Rule("dist_token", "dist_token"), *layers(EMBED | ATTENTION | MLP | HEADS)),
    recognise=recognise,
    spell=lambda config: {},
    write=writer("deit", "DeiT", lambda config: "bicubic"),
    limits={**PLAIN, "pos_prefix": ("class",), "layer_scale": (False,), "final_norm": ("tokens",)},
    conflicts=conflicts,
    adapts=CLASS_ROW,
)
