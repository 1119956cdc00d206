"""What a ViT checkpoint is: its config, its names, its files, and how it moves between layouts."""

from vit_convert.config import ViTConfig

__all__ = ["ViTConfig"]
