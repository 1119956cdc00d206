"""From an example to the pixels that a batch holds: whole, cropped at random, or as they are evaluated."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from train.config import DataConfig
from train.input.crop import random_resized_box
from train.input.decode import (
    CorruptImage,
    crop_and_resize,
    decode,
    image_size,
    resize,
    with_channels,
)
from train.input.sources import Example
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess

Load = Callable[[Example, int], np.ndarray]  # an example, and its row in the batch -> (H, W, C) uint8
PADDING = 4  # DeiT III's


def plain(model: ViTConfig, data: DataConfig) -> Load:
    """The whole image, squashed to the model's size."""

    def load(example: Example, row: int) -> np.ndarray:
        return resize(decode(example.image, model.in_channels), model.image_hw, data.interpolation)

    return load


def cropped(model: ViTConfig, data: DataConfig, draws: np.ndarray) -> Load:
    """A random crop, by the row's draws (see crop_draws)."""
    of = (model.image_hw, model.in_channels, data.interpolation)

    def resized(example: Example, row: int) -> np.ndarray:
        box = random_resized_box(*image_size(example.image), data.min_area, draws[row])
        return crop_and_resize(example.image, box, *of)

    def simple(example: Example, row: int) -> np.ndarray:
        return simple_crop(example.image, *of, draws[row, 0])

    return simple if data.crop == "simple" else resized


def simple_crop(
    image: bytes | np.ndarray, size: tuple[int, int], channels: int, interpolation: str, draws: np.ndarray
) -> np.ndarray:
    """DeiT III's crop (facebookresearch/deit, datasets.py, --src): the shortest side resized, four mirrored pixels
    around it, and of that any part of the size."""
    pixels = decode(image, channels)
    scale = max(size[0] / pixels.shape[0], size[1] / pixels.shape[1])
    covering = tuple(max(n, round(old * scale)) for n, old in zip(size, pixels.shape, strict=False))
    pixels = resize(pixels, (covering[0], covering[1]), interpolation)
    pixels = np.pad(pixels, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)), mode="reflect")
    top, left = (int(u * (n - s + 1)) for u, n, s in zip(draws[2:], pixels.shape, size, strict=False))
    return np.ascontiguousarray(pixels[top : top + size[0], left : left + size[1]])


def evaluated(preprocess: Preprocess) -> Load:
    """As a checkpoint's preprocessing says, by Pillow, before it is normalised."""
    channels = len(preprocess.mean)

    def load(example: Example, row: int) -> np.ndarray:
        pixels = preprocess.pixels(as_picture(example.image, channels))
        return pixels.reshape(*pixels.shape[:2], channels)

    return load


def as_picture(image: bytes | np.ndarray, channels: int) -> Image.Image:
    """
    Raises:
        CorruptImage: not an image, or one that is cut short.
    """
    if isinstance(image, np.ndarray):
        return Image.fromarray(
            with_channels(image, channels).squeeze(2) if channels == 1 else with_channels(image, channels)
        )
    try:
        with Image.open(io.BytesIO(image)) as opened:
            opened.load()
            return opened
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptImage(str(error)) from error
