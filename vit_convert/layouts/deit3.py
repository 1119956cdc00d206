"""DeiT III: vit_models with Layer_scale_init_Block, of DeiT's repository.

References:
    Touvron et al. 2022 (DeiT III), https://github.com/facebookresearch/deit models_v2.py, main.py
"""

from collections.abc import Mapping
from math import isqrt

from vit_convert.layouts.base import Bare, Described, Layout, coded, layer_rules
from vit_convert.layouts.meta import (
    ATTENTION,
    BLOCK,
    EMBED,
    MLP,
    NO_CLASS_ROW,
    PLAIN,
    TOKENS,
    Sizes,
    built,
    only_squares,
    square,
    together,
    writer,
)
from vit_convert.rules import Rule, Shape, Spelling

HEAD = {name: name for name in ("norm", "head")}
RULES = (
    *TOKENS,
    *layer_rules(EMBED | ATTENTION | MLP | HEAD),
    *(Rule(f"{BLOCK}.gamma_{i}", f"{BLOCK}.ls{i}.gamma") for i in (1, 2)),
)
CODE = {
    "norm_eps": 1e-6,
    "act": "gelu",
    "rope": "none",
    "pos_prefix": "none",
    "pos_resize": "bicubic",
    "pool": "class",
}
SIZES: Sizes = {
    (192, 12, 16): (3, "deit_tiny_patch16_LS"),
    (384, 12, 16): (6, "deit_small_patch16_LS"),
    (512, 12, 16): (8, "deit_medium_patch16_LS"),
    (768, 12, 16): (12, "deit_base_patch16_LS"),
    (1024, 24, 16): (16, "deit_large_patch16_LS"),
    (1280, 32, 14): (16, "deit_huge_patch14_LS"),
    (1280, 52, 14): (16, "deit_huge_patch14_52_LS"),
    (1664, 48, 14): (16, "deit_Giant_48_patch14_LS"),
    (1408, 40, 14): (16, "deit_giant_40_patch14_LS"),
    (384, 36, 16): (6, "deit_small_patch16_36_LS"),
    (768, 36, 16): (12, "deit_base_patch16_36x1_LS"),
}


def recognise(shapes: Mapping[str, Shape]) -> Mapping[str, Spelling] | None:
    """By its layer scale, together with what timm's Eva, which names that alike, has otherwise."""
    has = {"blocks.0.gamma_1", "blocks.0.attn.qkv.weight", "cls_token", "pos_embed"} <= set(shapes)
    if not has or "blocks.0.attn.q_bias" in shapes:
        return None
    rows = shapes["pos_embed"][1] if len(shapes["pos_embed"]) == 3 else 0
    return {} if isqrt(rows) ** 2 == rows else None


def bare(file: Bare) -> Described:
    """All but sizes that the repository doesn't build."""
    who = "DeiT III"
    return together("deit3", coded(who, CODE), square(who, file.hub, 0), built(who, SIZES, file.hub))


DEIT3 = Layout(
    name="deit3",
    summary="models_v2.py of facebookresearch/deit (DeiT III): load_state_dict of the model",
    rules=RULES,
    recognise=recognise,
    spell=lambda config: {},
    write=writer("deit3", "DeiT III", lambda config: "bicubic"),
    limits={
        **PLAIN,
        "dist_token": (False,),
        "pos_prefix": ("none",),
        "layer_scale": (True,),
        "final_norm": ("tokens",),
        "pool": ("class",),
    },
    conflicts=only_squares,
    bare=bare,
    adapts=NO_CLASS_ROW,
)
