"""MAE: the encoder, pre-trained with its decoder beside it, or fine-tuned.

References:
    He et al. 2022 (MAE), https://github.com/facebookresearch/mae models_mae.py, models_vit.py, util/pos_embed.py

The names are timm's: a file without the decoder is taken for timm's unless config.json says that it is MAE's. What
is written loads into models_vit.VisionTransformer, with global_pool=True if it averages the patches.
"""

from vit_convert.config import ViTConfig
from vit_convert.layouts.base import Aside, Bare, Described, Layout, Spare, coded, layer_rules
from vit_convert.layouts.meta import (
    ATTENTION,
    CLASS_ROW,
    EMBED,
    MLP,
    PLAIN,
    TOKENS,
    built,
    only_squares,
    only_with,
    recognise_plain,
    sizes_of,
    square,
    together,
    writer,
)
from vit_convert.rules import Rule

HEAD = {name: name for name in ("norm", "fc_norm", "head")}
DECODER = "the decoder of masked pre-training"
# As it is pre-trained.
CODE = {
    "norm_eps": 1e-6,
    "act": "gelu",
    "rope": "none",
    "pos_prefix": "class",
    "pos_resize": "bicubic",
    "pool": "class",
}


def bare(file: Bare) -> Described:
    """All but sizes that the repository doesn't build."""
    return together("mae", coded("MAE", CODE), square("MAE", file.hub, 1), built("MAE", sizes_of("mae"), file.hub))


def conflicts(config: ViTConfig) -> list[str]:
    """The norm stands before the class token is taken, and behind an average."""
    norm = {"class": "tokens", "mean": "pooled"}.get(config.pool)
    return only_squares(config) + (only_with(config, "pool", final_norm=(norm,)) if norm else [])


MAE = Layout(
    name="mae",
    summary="models_vit.py of facebookresearch/mae: load_state_dict of the model",
    rules=(*TOKENS, Rule("mask_token", "mask_token"), *layer_rules(EMBED | ATTENTION | MLP | HEAD)),
    recognise=recognise_plain,
    spell=lambda config: {},
    write=writer("mae", "MAE", lambda config: "bicubic"),
    limits={
        **PLAIN,
        "dist_token": (False,),
        "pos_prefix": ("class",),
        "layer_scale": (False,),
        "pool": ("class", "mean"),
    },
    conflicts=conflicts,
    bare=bare,
    asides=(
        *(Aside(f"decoder_{part}.", DECODER) for part in ("embed", "blocks", "norm", "pred")),
        Aside("decoder_pos_embed", DECODER),
    ),
    spares=(Spare("mask_token", "mask_token (masked pre-training)"),),
    adapts=CLASS_ROW,
)
