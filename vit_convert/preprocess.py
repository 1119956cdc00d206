"""From an image file's pixels to a model's input, as the checkpoint was trained."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from vit_convert.positions import resize_matrix

PIL_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Resize, centre crop, scale to [0, 1], normalise. Sizes are (height, width) in pixels.

    `shortest` keeps the aspect ratio and just covers `resize`; `squash` makes the image exactly that size.
    Images become grey, RGB or RGBA: as many channels as `mean` and `std` have.

    Raises:
        ValueError: a field has the wrong type or value.
    """

    resize: Size
    crop: Size
    mode: Literal["shortest", "squash"] = "shortest"
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    antialias: bool = True
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        for name in ("resize", "crop", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("resize", "crop"):
            size = getattr(self, name)
            if len(size) != 2 or not all(type(n) is int and n > 0 for n in size):
                raise ValueError(f"{name} must be (height, width) in positive integers, got {size!r}")
        if any(c > r for c, r in zip(self.crop, self.resize, strict=True)):
            raise ValueError(f"crop {self.crop} is larger than resize {self.resize}")
        for name, known in (("mode", ("shortest", "squash")), ("interpolation", tuple(PIL_FILTERS))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3, 4) or not all(self.std):
            raise ValueError(f"mean and std need 1, 3 or 4 numbers each, std none of 0: {self.mean} and {self.std}")

    def __call__(self, image: Image.Image) -> np.ndarray:
        """A PIL image -> (H, W, C) float32 of size `crop`."""
        pixels = _resize(image.convert({1: "L", 3: "RGB", 4: "RGBA"}[len(self.mean)]), self)
        pixels = pixels.reshape(*pixels.shape[:2], len(self.mean))
        # torchvision's CenterCrop rounds to even, as round() does
        top, left = (round((n - c) / 2) for n, c in zip(pixels.shape[:2], self.crop, strict=True))
        return self.normalise(pixels[top : top + self.crop[0], left : left + self.crop[1]])

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (..., C) -> float32: scaled to [0, 1], then minus the mean, over the standard deviation."""
        scaled = pixels.astype(np.float32) / 255
        return (scaled - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)

    def resized(self, crop: Size) -> "Preprocess":
        """The same for another size: each axis of `resize` scaled as `crop` is, and rounded."""
        resize = tuple(round(n * new / old) for n, new, old in zip(self.resize, crop, self.crop, strict=True))
        return replace(self, crop=crop, resize=(resize[0], resize[1]))

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON; `from_dict` reads it back."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocess":
        """Reads what `to_dict` wrote.

        Raises:
            ValueError: unknown or missing fields, or an invalid value.
        """
        known = {f.name for f in fields(cls)}
        if set(values) - known or not {"resize", "crop"} <= set(values):
            raise ValueError(f"Preprocess: needs resize and crop, knows {sorted(known)}, got {sorted(values)}")
        return cls(**values)


def _resize(image: Image.Image, to: Preprocess) -> np.ndarray:
    """(H, W) or (H, W, C) uint8."""
    width, height = image.size
    size = to.resize
    if to.mode == "shortest":
        size = _covering((height, width), to.resize)
    if (height, width) == size:
        return np.asarray(image)
    if to.antialias:  # Pillow always widens its kernel
        return np.asarray(image.resize((size[1], size[0]), PIL_FILTERS[to.interpolation]))
    rows, columns = (resize_matrix(a, b, to.interpolation) for a, b in zip((height, width), size, strict=True))
    resized = np.einsum("ai,bj,ij...->ab...", rows, columns, np.asarray(image, np.float64), optimize=True)
    return resized.round().clip(0, 255).astype(np.uint8)


def _covering(size: Size, target: Size) -> Size:
    """`size` scaled so that it just covers `target`: torchvision's Resize, which truncates the longer side."""
    height, width = size
    if height * target[1] <= width * target[0]:
        return target[0], max(target[1], target[0] * width // height)
    return max(target[0], target[1] * height // width), target[1]
