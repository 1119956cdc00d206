"""Pictures to another size, in the arithmetic of the library that a checkpoint was trained with.

References:
    https://github.com/python-pillow/Pillow src/libImaging/Resample.c
    https://github.com/tensorflow/tensorflow tensorflow/core/kernels/image/resize_bilinear_op.cc
"""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from vit_convert.positions import resize_matrix

if TYPE_CHECKING:  # checkpoints are opened and converted without Pillow
    from PIL import Image

Interpolation = Literal["bilinear", "bicubic"]
Rounding = Literal["nearest", "down", "none"]
Pixels = npt.NDArray[Any]


def resample(
    image: "Image.Image", size: tuple[int, int], interpolation: Interpolation, antialias: bool, rounding: Rounding
) -> Pixels:
    """A picture of 8 bits a channel -> (*size,) or (*size, C): uint8, or float32 in [0, 255] if `rounding` is none."""
    if (image.height, image.width) == size:
        return np.asarray(image)
    if antialias and rounding == "nearest":  # Pillow always widens its kernel
        from PIL import Image

        return np.asarray(image.resize((size[1], size[0]), Image.Resampling[interpolation.upper()]))
    pixels = np.asarray(image)
    if interpolation == "bilinear" and not antialias:
        return _rounded(_four_neighbours(pixels, size), rounding)
    rule = f"{interpolation}_antialias" if antialias else interpolation
    rows, columns = (resize_matrix(a, b, rule) for a, b in zip(pixels.shape, size, strict=False))
    resized = np.einsum("ai,bj,ij...->ab...", rows, columns, pixels.astype(np.float64), optimize=True)
    return _rounded(resized.round(6), rounding)  # so that no even area falls below its value and is rounded down


def _rounded(pixels: Pixels, rounding: Rounding) -> Pixels:
    if rounding == "none":
        return pixels.astype(np.float32)
    return (pixels.round() if rounding == "nearest" else pixels).clip(0, 255).astype(np.uint8)


def _four_neighbours(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Bilinear without antialias as tf.image.resize computes it: float32, along the rows first, bit for bit."""
    (up, down, y), (left, right, x) = (_neighbours(a, b) for a, b in zip(pixels.shape, size, strict=False))
    flat = pixels.reshape(*pixels.shape[:2], -1).astype(np.float32)
    above, below = (flat[r][:, left] + (flat[r][:, right] - flat[r][:, left]) * x[:, None] for r in (up, down))
    return (above + (below - above) * y[:, None, None]).reshape(*size, *pixels.shape[2:])


def _neighbours(n_in: int, n_out: int) -> tuple[Pixels, Pixels, Pixels]:
    """For each output sample: the inputs before and after it, and how far it is from the first, in float32."""
    half = np.float32(0.5)
    at = (np.arange(n_out, dtype=np.float32) + half) * (np.float32(n_in) / np.float32(n_out)) - half
    before = np.floor(at)
    return before.clip(0).astype(int), np.ceil(at).clip(0, n_in - 1).astype(int), at - before
