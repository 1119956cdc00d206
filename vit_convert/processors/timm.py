"""timm's `pretrained_cfg`: what timm.data.create_transform makes of it for evaluation.

References:
    https://github.com/huggingface/pytorch-image-models timm/data/config.py, transforms_factory.py

It is a Pillow pipeline, which this reproduces bit for bit. crop_mode `border`, which pads, is not read.
"""

from collections.abc import Mapping
from math import floor, nextafter
from typing import Any

from vit_convert.preprocess import Preprocess

# The entries that say how images are prepared; the size is the model's.
ENTRIES = ("mean", "std", "crop_pct", "crop_mode", "interpolation")
MODES = {"center": "shortest", "squash": "squash"}


def read(pretrained: Mapping[str, Any]) -> Preprocess | None:
    """As timm.data.create_transform evaluates, where that is plain; else None."""
    try:
        channels, *crop = pretrained["input_size"]
        resize = [floor(n / pretrained["crop_pct"]) for n in crop]
        if len(pretrained["mean"]) != channels or len(pretrained["std"]) != channels:
            return None
        return Preprocess(
            resize=(resize[0], resize[1]),
            crop=(crop[0], crop[1]),
            mode=MODES[pretrained.get("crop_mode", "center")],  # type: ignore[arg-type]
            interpolation=pretrained["interpolation"],
            mean=tuple(pretrained["mean"]),
            std=tuple(pretrained["std"]),
        )
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError):
        return None


def write(preprocess: Preprocess, image_hw: tuple[int, int]) -> dict[str, Any] | None:
    """Entries of a pretrained_cfg for a model of this image size; None where it can't say this preprocessing."""
    percent = min(c / r for c, r in zip(preprocess.crop, preprocess.resize, strict=True))  # the largest that fits
    options = (percent, nextafter(percent, 0), nextafter(percent, 2))
    fits = [p for p in options if tuple(floor(n / p) for n in preprocess.crop) == preprocess.resize]
    if not fits or preprocess.crop != image_hw:  # timm crops to the model's input_size
        return None
    return {
        "input_size": [len(preprocess.mean), *preprocess.crop],
        "crop_pct": fits[0],
        "crop_mode": {ours: theirs for theirs, ours in MODES.items()}[preprocess.mode],
        "interpolation": preprocess.interpolation,
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
    }
