"""One file per layout; n layouts need n tables, each to the hub."""

from vit_convert.errors import CheckpointError
from vit_convert.layouts.base import Layout
from vit_convert.layouts.native import FLAX, NATIVE
from vit_convert.layouts.timm import TIMM
from vit_convert.layouts.transformers import TRANSFORMERS

# In the order in which a file's names are tried: native before timm would claim every timm file.
LAYOUTS = {layout.name: layout for layout in (FLAX, TRANSFORMERS, TIMM, NATIVE)}

__all__ = ["LAYOUTS", "Layout", "get_layout"]


def get_layout(name: str) -> Layout:
    """Raises CheckpointError for a name that is no layout."""
    if name not in LAYOUTS:
        raise CheckpointError(f"unknown layout {name!r}; the layouts are {', '.join(sorted(LAYOUTS))}")
    return LAYOUTS[name]
