"""The specification: a small, readable Vision Transformer in PyTorch."""

from vit_convert.config import ViTConfig
from vit_torch.vit import ViT

__all__ = ["ViT", "ViTConfig"]
