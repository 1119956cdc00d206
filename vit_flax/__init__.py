"""The mirror: the same Vision Transformer in Flax NNX, file by file."""

from vit_convert.config import ViTConfig
from vit_flax.vit import ViT

__all__ = ["ViT", "ViTConfig"]
