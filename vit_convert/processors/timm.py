"""timm's `pretrained_cfg`: what timm.data.create_transform makes of it for evaluation.

References:
    https://github.com/huggingface/pytorch-image-models timm/data/config.py, transforms_factory.py
"""

from collections.abc import Mapping
from math import floor, nextafter
from typing import Any

from vit_convert.preprocess import Preprocess


def write(preprocess: Preprocess, image_hw: tuple[int, int]) -> dict[str, Any] | None:
    """Entries of a pretrained_cfg whose input_size is `image_hw`; None where it can't say this preprocessing."""
    percent = preprocess.crop[0] / preprocess.resize[0]
    options = (percent, nextafter(percent, 0), nextafter(percent, 2))
    fits = [p for p in options if tuple(floor(n / p) for n in preprocess.crop) == preprocess.resize]
    square = preprocess.resize[0] == preprocess.resize[1]
    sizes = fits and preprocess.crop == image_hw  # timm crops to the model's input_size
    if not sizes or not preprocess.antialias or (preprocess.mode == "shortest" and not square):
        return None
    return {
        "crop_pct": fits[0],
        "crop_mode": {"shortest": "center", "squash": "squash"}[preprocess.mode],
        "interpolation": preprocess.interpolation,
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
    }


def read(pretrained: Mapping[str, Any]) -> Preprocess | None:
    """As timm.data.create_transform evaluates, where that is plain; else None."""
    mode = {"center": "shortest", "squash": "squash"}.get(pretrained.get("crop_mode", "center"))
    try:
        channels, *crop = pretrained["input_size"]
        resize = [floor(n / pretrained["crop_pct"]) for n in crop]
        if mode is None or len(pretrained["mean"]) != channels or (mode == "shortest" and resize[0] != resize[1]):
            return None
        return Preprocess(
            resize=(resize[0], resize[1]),
            crop=(crop[0], crop[1]),
            mode=mode,  # type: ignore[arg-type]
            interpolation=pretrained["interpolation"],
            mean=tuple(pretrained["mean"]),
            std=tuple(pretrained["std"]),
        )
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError):
        return None
