"""From an image file's pixels to a model's input, as the checkpoint was trained.

No family turns a photograph by its EXIF orientation, and neither does this: who opens photographs turns
them first, by `PIL.ImageOps.exif_transpose`, as vit-predict and vit-app do.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from vit_convert.errors import CheckpointError
from vit_convert.resample import Interpolation, Rounding, resample

if TYPE_CHECKING:
    from PIL import Image

    from vit_convert.config import ViTConfig

Size = tuple[int, int]
Mode = Literal["shortest", "squash"]
CropOffset = Literal["round", "floor"]
Alpha = Literal["drop", "white"]
CHOICES = {
    "mode": get_args(Mode),
    "interpolation": get_args(Interpolation),
    "rounding": get_args(Rounding),
    "crop_offset": get_args(CropOffset),
    "alpha": get_args(Alpha),
}

MOST_PIXELS = 2**28  # of a picture as it is resized: 800 MB in RGB; photographs come to a thousandth


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Resize, centre crop, scale to [0, 1], normalise. Sizes are (height, width) in pixels.

    Images become grey, RGB or RGBA: as many channels as `mean` and `std` have. Where a field makes no
    difference (the offset of a crop that takes all, transparency in other than RGB) it takes its default,
    so that two preprocessings are equal if they do the same.

    Attributes:
        mode: `shortest` keeps the aspect ratio and just covers `resize`; `squash` makes the image that size.
        rounding: of resized pixels to whole levels: to the `nearest` (Pillow, torchvision), `down` (big_vision
            casts), or `none` (vit_jax, transformers' DINOv3: they go on in float32).
        crop_offset: an odd margin's half is `round`ed to even (torchvision, timm, open_clip) or `floor`ed
            (transformers): one pixel's difference for every other size.
        alpha: in a picture that becomes RGB, transparency is `drop`ped (Pillow's convert), or the picture is laid
            on `white` (transformers' do_convert_rgb).

    Raises:
        ValueError: a field has the wrong type or value.
    """

    resize: Size
    crop: Size
    mode: Mode = "shortest"
    interpolation: Interpolation = "bicubic"
    antialias: bool = True
    rounding: Rounding = "nearest"
    crop_offset: CropOffset = "round"
    alpha: Alpha = "drop"
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
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        numbers = all(isinstance(x, int | float) for x in (*self.mean, *self.std))
        if not numbers or len(self.mean) != len(self.std) or len(self.mean) not in (1, 3, 4) or not all(self.std):
            raise ValueError(f"mean and std need 1, 3 or 4 numbers each, std none of 0: {self.mean} and {self.std}")

        if len(self.mean) != 3:
            object.__setattr__(self, "alpha", "drop")
        if self.mode == "squash" and self._offset(self.resize, "round") == self._offset(self.resize, "floor"):
            object.__setattr__(self, "crop_offset", "round")

    def __call__(self, image: "Image.Image") -> np.ndarray:
        """A PIL image -> (H, W, C) float32 of size `crop`.

        Raises:
            TooThin: it is so long and thin that it would be resized to more than MOST_PIXELS.
        """
        return self.normalise(self.pixels(image))

    def pixels(self, image: "Image.Image") -> np.ndarray:
        """The same before it is normalised: levels of 0 to 255; whole ones (uint8) unless `rounding` is none."""
        image = self._convert(image)
        size = self.resize if self.mode == "squash" else covering((image.height, image.width), self.resize)
        check_size((image.height, image.width), size)
        pixels = resample(image, size, self.interpolation, self.antialias, self.rounding)
        pixels = pixels.reshape(*size, len(self.mean))
        top, left = self._offset(size, self.crop_offset)
        return pixels[top : top + self.crop[0], left : left + self.crop[1]]

    def seen(self, size: Size) -> tuple[float, float, float, float]:
        """(top, left, height, width) of what the model sees of an image of `size` (height, width), in its pixels."""
        resized = self.resize if self.mode == "squash" else covering(size, self.resize)
        (top, left), (height, width) = self._offset(resized, self.crop_offset), self.crop
        by = size[0] / resized[0], size[1] / resized[1]
        return top * by[0], left * by[1], height * by[0], width * by[1]

    def _convert(self, image: "Image.Image") -> "Image.Image":
        """To grey, RGB or RGBA."""
        transparent = "A" in image.getbands() or image.info.get("transparency") is not None
        if self.alpha == "white" and transparent:
            from PIL import Image

            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert({1: "L", 3: "RGB", 4: "RGBA"}[len(self.mean)])

    def _offset(self, size: Size, rule: str) -> tuple[int, int]:
        """The first row and column of the crop. round() rounds a half to even."""
        halves = ((n - c) / 2 for n, c in zip(size, self.crop, strict=True))
        top, left = (round(half) if rule == "round" else int(half) for half in halves)
        return top, left

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """(..., C) in [0, 255] -> float32: scaled to [0, 1], then minus the mean, over the standard deviation."""
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


class TooThin(ValueError):
    """A picture that would take gigabytes, resized; the message says its size."""


def check_size(size: Size, resized: Size) -> None:
    """
    Raises:
        TooThin: a picture of `size` would take gigabytes, resized.
    """
    if resized[0] * resized[1] > MOST_PIXELS:
        of, to = (f"{width:,}x{height:,}" for height, width in (size, resized))
        raise TooThin(f"{of} pixels are too long and thin: resized to {to} they would be more than {MOST_PIXELS:,}")


def covering(size: Size, target: Size) -> Size:
    """`size` scaled so that it just covers `target`.

    For a square target the longer side is truncated, as torchvision's Resize and transformers do it; for
    another one it is rounded, as timm's and open_clip's ResizeKeepRatio.
    """
    height, width = size
    if target[0] == target[1]:
        edge = target[0]
        return (edge, edge * width // height) if height <= width else (edge * height // width, edge)
    ratio = min(height / target[0], width / target[1])
    return max(target[0], round(height / ratio)), max(target[1], round(width / ratio))


def check_fits(path: str, preprocess: Preprocess, config: "ViTConfig") -> None:
    """
    Raises:
        CheckpointError: the images have other channels than the model takes, or its patches don't divide them.
    """
    if len(preprocess.mean) != config.in_channels:
        raise CheckpointError(
            f"the preprocessing of {path} makes images of {len(preprocess.mean)} channels (as many as its mean has), "
            f"and the model takes {config.in_channels}: correct the file that says how images are prepared"
        )
    if any(side % patch for side, patch in zip(preprocess.crop, config.patch_hw, strict=True)):
        size, patch = ("x".join(map(str, pair)) for pair in (preprocess.crop, config.patch_hw))
        raise CheckpointError(
            f"the preprocessing of {path} makes images of {size} pixels, which the model's patches of {patch} don't "
            "divide: correct the file that says how images are prepared"
        )
