"""open_clip's `preprocess_cfg`: what its image_transform makes of it for inference.

References:
    https://github.com/mlfoundations/open_clip src/open_clip/transform.py, factory.py

A Pillow pipeline without a margin: the size is the model's, and all of it is the crop. Pictures become RGB
after they are resized, where everyone else converts first: those with a palette or with transparency, and
only those, come out otherwise. resize_mode `longest`, which pads and which no published model uses, is not read.
"""

from collections.abc import Mapping
from typing import Any

from vit_convert.preprocess import Preprocess

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # open_clip/constants.py
MODES = ("shortest", "squash")


def read(preprocess_cfg: Mapping[str, Any], image_hw: tuple[int, int]) -> Preprocess | None:
    """As open_clip.image_transform infers for a model of this image size; None where that is not plain."""
    default = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    said: dict[str, Any] = {**default, **{name: value for name, value in preprocess_cfg.items() if value is not None}}
    if said["resize_mode"] not in MODES:
        return None
    # ResizeKeepRatio is made without the interpolation, and "random" is for training.
    always_cubic = said["interpolation"] == "random" or (said["resize_mode"] == "shortest" and len({*image_hw}) > 1)
    try:
        return Preprocess(
            resize=image_hw,
            crop=image_hw,
            mode=said["resize_mode"],
            interpolation="bicubic" if always_cubic else str(said["interpolation"]),  # type: ignore[arg-type]
            mean=_three(said["mean"]),
            std=_three(said["std"]),
        )
    except (TypeError, ValueError):
        return None


def write(preprocess: Preprocess, image_hw: tuple[int, int]) -> dict[str, Any] | None:
    """A preprocess_cfg for a model of this image size; None where it can't say this preprocessing."""
    said = {
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "interpolation": preprocess.interpolation,
        "resize_mode": preprocess.mode,
    }
    back = read(said, image_hw)
    sizes = ("resize", "crop", "interpolation", "mean")
    return said if back and all(getattr(back, f) == getattr(preprocess, f) for f in sizes) else None


def _three(value: Any) -> tuple[float, ...]:
    """One number stands for each channel."""
    return tuple(value) if isinstance(value, list | tuple) else (value,) * 3
