"""Preprocessing that families have in code alone, as their own evaluation does it.

References:
    https://github.com/google-research/vision_transformer vit_jax/input_pipeline.py
    https://github.com/google-research/big_vision big_vision/pp/ops_image.py (resize, value_range)
    https://github.com/pytorch/vision torchvision/models/vision_transformer.py, transforms/_presets.py
    https://github.com/facebookresearch/dino eval_linear.py
    https://github.com/facebookresearch/dinov2 dinov2/data/transforms.py
    https://github.com/facebookresearch/dinov3 README.md (make_transform)
    https://github.com/facebookresearch/mae util/datasets.py
    https://github.com/facebookresearch/deit datasets.py, README_revenge.md (DeiT III: --eval-crop-ratio 1.0)
    https://github.com/openai/CLIP clip/clip.py

Google's resizing is tf.image.resize without antialias, which this equals bit for bit. Its JPEG decoder is not
Pillow's: TensorFlow's default (dct_method INTEGER_FAST) is up to 18 levels of 255 away from Pillow on a
photograph, 1.3 in the mean; with INTEGER_ACCURATE the two are the same.
"""

from collections.abc import Callable, Mapping
from typing import Any

from vit_convert.preprocess import Preprocess, Size
from vit_convert.processors.open_clip import MEAN as CLIP_MEAN
from vit_convert.processors.open_clip import STD as CLIP_STD

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SATELLITE = {"mean": (0.430, 0.411, 0.296), "std": (0.213, 0.156, 0.143)}  # DINOv3 of SAT-493M
CLIP = {"mean": CLIP_MEAN, "std": CLIP_STD}
GOOGLE = {"mode": "squash", "interpolation": "bilinear", "antialias": False}

# Weights -> the crop that they were published for, what it is cropped from, and how that is made.
TORCHVISION: Mapping[str, tuple[int, int, str]] = {
    "vit_b_16": (224, 256, "bilinear"),
    "vit_b_32": (224, 256, "bilinear"),
    "vit_l_16": (224, 242, "bilinear"),
    "vit_l_32": (224, 256, "bilinear"),
    "vit_b_16_swag": (384, 384, "bicubic"),
    "vit_l_16_swag": (512, 512, "bicubic"),
    "vit_h_14_swag": (518, 518, "bicubic"),
    "vit_b_16_lc_swag": (224, 224, "bicubic"),
    "vit_l_16_lc_swag": (224, 224, "bicubic"),
    "vit_h_14_lc_swag": (224, 224, "bicubic"),
}


def known(family: str, image_hw: Size) -> Preprocess:
    """The preprocessing of a family's own evaluation, at this image size.

    Args:
        family: one of `FAMILIES`, or `torchvision/NAME` with a NAME of `TORCHVISION`: the names of its files
            (vit_b_16_lc_swag-4e70ced5.pth) before the hash.

    Raises:
        ValueError: an unknown family.
    """
    library, _, name = family.partition("/")
    if library == "torchvision" and name in TORCHVISION:
        crop, resize, interpolation = TORCHVISION[name]
        published = Preprocess(resize=(resize,) * 2, crop=(crop,) * 2, **IMAGENET, interpolation=interpolation)  # type: ignore[arg-type]
        return published.resized(image_hw)
    if family not in FAMILIES:
        names = [*FAMILIES, *(f"torchvision/{name}" for name in TORCHVISION)]
        raise ValueError(f"no preprocessing is known for {family!r}; known are {', '.join(names)}")
    return FAMILIES[family](image_hw)


def _whole(**options: Any) -> Callable[[Size], Preprocess]:
    """No margin: what it is resized to is all taken."""
    return lambda image_hw: Preprocess(resize=image_hw, crop=image_hw, **options)


def _margin(image_hw: Size) -> Preprocess:
    """224 of 256, bicubic, ImageNet's statistics; other sizes in proportion, truncated."""
    height, width = (int(n / 0.875) for n in image_hw)
    return Preprocess(resize=(height, width), crop=image_hw, **IMAGENET)  # type: ignore[arg-type]


def _mae(image_hw: Size) -> Preprocess:
    """A margin up to 224, none above it."""
    return _margin(image_hw) if max(image_hw) <= 224 else _whole(**IMAGENET)(image_hw)


FAMILIES: Mapping[str, Callable[[Size], Preprocess]] = {
    "vit_jax": _whole(**GOOGLE, rounding="none"),
    "big_vision": _whole(**GOOGLE, rounding="down"),
    "dino": _margin,
    "dinov2": _margin,
    "dinov3": _whole(mode="squash", interpolation="bilinear", **IMAGENET),
    "dinov3_sat493m": _whole(mode="squash", interpolation="bilinear", **SATELLITE),
    "mae": _mae,
    "deit": _margin,
    "deit3": _whole(**IMAGENET),
    "clip": _whole(**CLIP),
}
