"""scenic: Flax msgpack train states of google-research/scenic's baseline ViT."""

from collections.abc import Mapping

from vit_convert.layouts.base import Layout
from vit_convert.layouts.google import ADAPTS, ASIDES, INPUT, LIMITS, RULES, TODAY, bare, holes, recognise
from vit_convert.layouts.native import ours
from vit_convert.layouts.vit_jax import conflicts
from vit_convert.rules import Rule, Shape, Spelling
from vit_convert.steps import zero_prefix_positions

NAME = "scenic"
HEAD = "output_projection"
_ROOT = "params/"


def _recognise(shapes: Mapping[str, Shape]) -> Mapping[str, Spelling] | None:
    inner = {name.removeprefix(_ROOT): shape for name, shape in shapes.items() if name.startswith(_ROOT)}
    # Without a head nothing tells it from vit_jax's names under params/, which are the same model.
    found = recognise(inner) if INPUT in inner and "head/kernel" not in inner else None
    return None if found is None else {**found, "head": HEAD}


SCENIC = Layout(
    name=NAME,
    summary="google-research/scenic: the train state of its baseline ViT, as msgpack",
    rules=tuple(Rule(f"{_ROOT}{rule.left}", rule.right, rule.axes) for rule in RULES),
    recognise=_recognise,
    spell=lambda config: holes(TODAY, INPUT, HEAD),
    write=ours(NAME),
    limits={**LIMITS, "pos_embed": ("learned",), "pool": ("class", "mean")},
    conflicts=conflicts,
    bare=lambda file: bare(NAME, file),
    roots=("", "optimizer/target/"),
    asides=ASIDES,
    adapts=(zero_prefix_positions, *ADAPTS),
    weights_file="model.msgpack",
)
