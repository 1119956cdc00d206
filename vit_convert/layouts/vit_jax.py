"""vit_jax: the npz files of google-research/vision_transformer (ViT, AugReg).

Read with the names of the published files, from before Linen, and with those that today's Flax gives; written with
the published ones, which the repository's own loader (vit_jax/checkpoint.py) and timm read alike.
"""

from collections.abc import Mapping

from vit_convert.config import ViTConfig
from vit_convert.layouts.base import Layout, outside
from vit_convert.layouts.google import ADAPTS, ASIDES, INPUT, LIMITS, PUBLISHED, RULES, bare, holes, recognise
from vit_convert.layouts.native import ours
from vit_convert.rules import Shape, Spelling
from vit_convert.steps import zero_prefix_positions

NAME = "vit_jax"


def _recognise(shapes: Mapping[str, Shape]) -> Mapping[str, Spelling] | None:
    return recognise(shapes) if INPUT in shapes and "output_projection/kernel" not in shapes else None


def conflicts(config: ViTConfig) -> list[str]:
    """It has a class token where that is the output, and averages all tokens where not; the table covers them all."""
    given = f" with pool {config.pool!r}"
    return [
        *outside(config, "class_token", (config.pool == "class",), given),
        *outside(config, "pos_prefix", ("class" if config.class_token else "none",), given),
    ]


VIT_JAX = Layout(
    name=NAME,
    summary="google-research/vision_transformer: the npz files of ViT and AugReg",
    rules=RULES,
    recognise=_recognise,
    spell=lambda config: holes(PUBLISHED, INPUT),
    write=ours(NAME),
    limits={**LIMITS, "pos_embed": ("learned",), "pool": ("class", "mean")},
    conflicts=conflicts,
    bare=lambda file: bare(NAME, file, evaluation=NAME),
    roots=("", "params/", "opt/target/", "optimizer/target/"),
    asides=ASIDES,
    adapts=(zero_prefix_positions, *ADAPTS),
    weights_file="model.npz",
)
