"""DeiT: VisionTransformer and DistilledVisionTransformer of its repository.

References:
    https://github.com/facebookresearch/deit models.py, main.py (positions are resized when it fine-tunes)

Its names are timm's, so a file of it is taken for timm's unless config.json says that it is DeiT's.
"""

from vit_convert.config import ViTConfig
from vit_convert.layouts.base import Layout, layer_rules
from vit_convert.layouts.meta import (
    ATTENTION,
    CLASS_ROW,
    EMBED,
    MLP,
    PLAIN,
    TOKENS,
    only_squares,
    only_with,
    recognise_plain,
    writer,
)
from vit_convert.rules import Rule

HEADS = {name: name for name in ("norm", "head", "head_dist")}


def conflicts(config: ViTConfig) -> list[str]:
    """Two tokens have two heads, whose average is the answer."""
    return only_squares(config) + only_with(
        config, "dist_token", pool=("class_dist" if config.dist_token else "class",)
    )


DEIT = Layout(
    name="deit",
    summary="models.py of facebookresearch/deit: load_state_dict of the model",
    rules=(*TOKENS, Rule("dist_token", "dist_token"), *layer_rules(EMBED | ATTENTION | MLP | HEADS)),
    recognise=recognise_plain,
    spell=lambda config: {},
    write=writer("deit", "DeiT", lambda config: "bicubic"),
    limits={**PLAIN, "pos_prefix": ("class",), "layer_scale": (False,), "final_norm": ("tokens",)},
    conflicts=conflicts,
    adapts=CLASS_ROW,
)
