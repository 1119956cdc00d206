"""What the ImageNet recipes share: how the data are read, and what the values start from."""

from typing import Any

from train.config import DataConfig, StartConfig
from vit_convert.config import ViTConfig

# Touvron et al. 2021, table 1; Dosovitskiy et al. 2021, table 1: dim, depth, heads. vit_convert.presets has the same,
# but takes NumPy along, which --help would wait for.
WIDTHS = {"Ti": (192, 12, 3), "S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16)}


def vit(variant: str, **changes: Any) -> ViTConfig:
    """The usual ViT at 224 pixels with 1,000 classes, such as "B/16"; and what differs from it."""
    size, _, patch = variant.partition("/")
    dim, depth, heads = WIDTHS[size]
    shape: dict[str, Any] = dict(dim=dim, depth=depth, num_heads=heads, mlp_dim=4 * dim, patch_size=int(patch))
    shape |= {"image_size": 224, "num_classes": 1000, **changes}
    return ViTConfig(**shape)


def google_data() -> DataConfig:
    """Google's: 1% of the training images held back, Inception crops of at least 5%, bilinear, pixels in -1..1."""
    return DataConfig(
        name="imagenet2012",
        train_split="train[:99%]",
        test_split="validation",
        crop="random_resized",
        min_area=0.05,
        interpolation="bilinear",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


def google_start(model: ViTConfig) -> StartConfig:
    """Google's, nearly: a head of zeros, positions with variance 1/dim; kernels with 1/fan_in for Glorot's."""
    std = model.dim**-0.5 if model.pos_embed == "learned" else None
    return StartConfig(fan_in_kernels=True, pos_embed_std=std, zero_head=True)


def meta_data() -> DataConfig:
    """DeiT's: crops of at least 8%, bicubic, each image three times in a batch (Hoffer et al. 2020)."""
    return DataConfig(
        name="imagenet2012",
        test_split="validation",
        crop="random_resized",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        repeats=3,
    )
