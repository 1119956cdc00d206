"""einops patterns "left -> right" as the rules use them: their inverse, the shapes they give, the arrays."""

import re
from collections.abc import Mapping
from math import prod

import numpy as np
from einops import rearrange

from vit_convert.contiguous import contiguous

Shape = tuple[int, ...]


def flip_axes(axes: str) -> str:
    return " -> ".join(side.strip() for side in reversed(axes.split("->"))) if axes else ""


def rearranged(array: np.ndarray, axes: str, sizes: Mapping[str, int]) -> np.ndarray:
    """einops' rearrange, contiguous. Splitting and permuting is a view; only merging axes needs the copy,
    so that is left to `contiguous`, which is faster."""
    before, after = axes.split("->")
    shape = shape_through(axes, array.shape, sizes)
    used = {name: n for name, n in sizes.items() if re.search(rf"\b{name}\b", axes)}
    view = rearrange(array, f"{before} -> {after.replace('(', '').replace(')', '')}", **used)
    return contiguous(view).reshape(shape)


def shape_through(axes: str, shape: Shape, sizes: Mapping[str, int]) -> Shape:
    before, after = (_groups(side) for side in axes.split("->"))
    if len(before) != len(shape):
        raise ValueError(f"{axes!r} needs {len(before)} axes, got shape {shape}")
    known = dict(sizes)
    for group, size in zip(before, shape, strict=True):
        new = [axis for axis in group if axis not in known]
        rest = prod(known[axis] for axis in group if axis in known)
        if len(new) > 1 or (size % rest if new else size != rest):
            raise ValueError(f"{axes!r} doesn't fit shape {shape}, with {dict(sizes)}")
        known |= dict.fromkeys(new, size // rest)
    return tuple(prod(known[axis] for axis in group) for group in after)


def _groups(axes: str) -> list[list[str]]:
    """ "(part o) c" -> [["part", "o"], ["c"]]; "1" is an axis of no factors."""
    found = re.findall(r"\(([^)]*)\)|(\S+)", axes)
    return [[axis for axis in (merged or single).split() if axis != "1"] for merged, single in found]
