"""The table of families: every public family of ViT checkpoints that moves both ways."""

from parity_tests.families import google, open_clip, originals, timm, torchvision, transformers, transformers_4
from parity_tests.families.base import Family, Saved

FAMILIES = (
    *timm.FAMILIES,
    *torchvision.FAMILIES,
    *open_clip.FAMILIES,
    *transformers.FAMILIES,
    *transformers_4.FAMILIES,
    *originals.FAMILIES,
    *google.FAMILIES,
)

__all__ = ["FAMILIES", "Family", "Saved"]
