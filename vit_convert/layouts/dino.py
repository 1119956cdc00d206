"""DINO: VisionTransformer of its repository, bare or inside a training checkpoint.

References:
    Caron et al. 2021 (DINO), https://github.com/facebookresearch/dino vision_transformer.py, hubconf.py

Its names are timm's, so a bare file of it is taken for timm's unless config.json says that it is DINO's. A training
checkpoint has the projection head beside the backbone, and is known by that.
"""

from vit_convert.layouts.base import Aside, Bare, Described, Layout, coded, layer_rules
from vit_convert.layouts.meta import (
    ATTENTION,
    CLASS_ROW,
    EMBED,
    MLP,
    PLAIN,
    TOKENS,
    built,
    only_squares,
    recognise_plain,
    sizes_of,
    square,
    together,
    writer,
)

CODE = {
    "norm_eps": 1e-6,
    "act": "gelu",
    "rope": "none",
    "pos_prefix": "class",
    "pos_resize": "bicubic_offset",
    "pool": "class",
}


def bare(file: Bare) -> Described:
    """All but sizes that the repository doesn't build."""
    return together("dino", coded("DINO", CODE), square("DINO", file.hub, 1), built("DINO", sizes_of("dino"), file.hub))


DINO = Layout(
    name="dino",
    summary="vision_transformer.py of facebookresearch/dino: load_state_dict of the backbone",
    rules=(*TOKENS, *layer_rules(EMBED | ATTENTION | MLP | {"norm": "norm"})),
    recognise=recognise_plain,
    spell=lambda config: {},
    write=writer("dino", "DINO", lambda config: "bicubic_offset"),
    limits={
        **PLAIN,
        "num_classes": (0,),
        "dist_token": (False,),
        "pos_prefix": ("class",),
        "layer_scale": (False,),
        "final_norm": ("tokens",),
        "pool": ("class",),
    },
    conflicts=only_squares,
    bare=bare,
    roots=("", "backbone."),
    wrappers=("backbone.",),
    asides=tuple(Aside(f"head.{part}.", "the self-supervised head") for part in ("mlp", "last_layer")),
    adapts=CLASS_ROW,
)
