"""big_vision: npz of google-research/big_vision, an image tower alone or that of a SigLIP or LiT pair."""

from collections.abc import Mapping
from dataclasses import replace

from vit_convert.config import ViTConfig
from vit_convert.layouts.base import Aside, Bare, Described, Layout, outside
from vit_convert.layouts.google import ADAPTS, ASIDES, INPUT, LIMITS, PLAIN, RULES, TODAY, bare, holes, recognise
from vit_convert.layouts.native import ours
from vit_convert.rules import Shape, Spelling
from vit_convert.steps import fold_prefix_positions

NAME = "big_vision"
_TOWER, _SCALE = "the text tower", "the temperature and bias of the contrastive loss"


def _recognise(shapes: Mapping[str, Shape]) -> Mapping[str, Spelling] | None:
    return recognise(shapes) if INPUT not in shapes and "output_projection/kernel" not in shapes else None


def _bare(file: Bare) -> Described:
    """Without a table, positions are the fixed ones: there is no third kind."""
    told = bare(NAME, file, evaluation=NAME)
    if "pos_embed" in file.hub:
        return told
    sources = {**told.sources, "pos_embed": f"{NAME}'s code: no table is stored"}
    return replace(told, fields={**told.fields, "pos_embed": "sincos2d"}, sources=sources)


def conflicts(config: ViTConfig) -> list[str]:
    """A class token (pool_type "tok") is put in front after the positions were added, and is then the output."""
    return outside(config, "class_token", (config.pool == "class",), f" with pool {config.pool!r}")


BIG_VISION = Layout(
    name=NAME,
    summary="google-research/big_vision: npz, the image towers of SigLIP and LiT too",
    rules=RULES,
    recognise=_recognise,
    spell=lambda config: holes(TODAY, PLAIN),
    write=ours(NAME),
    limits={
        **LIMITS,
        "pos_embed": ("learned", "sincos2d"),
        "pos_prefix": ("none",),
        "pool": ("class", "mean", "map"),
    },
    conflicts=conflicts,
    bare=_bare,
    roots=("", "params/", "opt/target/", "params/img/", "img/"),
    asides=(
        *ASIDES,
        *(Aside(f"{root}txt/", _TOWER) for root in ("params/", "")),
        *(Aside(f"{root}{name}", _SCALE) for root in ("params/", "") for name in ("t", "b")),
    ),
    adapts=(fold_prefix_positions, *ADAPTS),
    weights_file="model.npz",
)
