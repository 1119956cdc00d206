"""Named configs, with the names and the maths that timm or the original repositories give them: `vit_base_patch16_224`.

A name fixes the function, not the weights: whose weights they are, and how they were trained, is up to the file.
A name that timm and a repository share, such as DeiT's, is timm's function.
"""

from vit_convert.errors import CheckpointError
from vit_convert.presets import meta, timm_eva, timm_vit
from vit_convert.presets.family import Preset, presets

TIMM_VIT = presets(timm_vit.FAMILIES)  # architectures of timm's VisionTransformer and VisionTransformerDistilled
TIMM_EVA = presets(timm_eva.FAMILIES)  # of its Eva
PRESETS = {**TIMM_VIT, **TIMM_EVA, **presets(meta.FAMILIES)}

__all__ = ["PRESETS", "TIMM_EVA", "TIMM_VIT", "Preset", "get_preset"]


def get_preset(name: str) -> Preset:
    """Raises CheckpointError for a name that is no preset, with those that are nearest."""
    if name not in PRESETS:
        from difflib import get_close_matches

        near = get_close_matches(name, PRESETS, n=5) or list(PRESETS)
        raise CheckpointError(f"unknown preset {name!r}; did you mean {', '.join(near)}?")
    return PRESETS[name]
