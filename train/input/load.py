"""From an example to the pixels that a batch holds: whole, cropped at random, or as they are evaluated."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from train.config import DataConfig
from train.input.crop import random_resized_box
from train.input.decode import CorruptImage, as_picture, crop_and_resize, image_size, whole
from train.input.sources import Example
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess, TooThin, check_size, covering

Load = Callable[[Example, int], np.ndarray]  # an example, and its row in the batch -> (H, W, C) uint8
PADDING = 4  # DeiT III's


def plain(model: ViTConfig, data: DataConfig) -> Load:
    """The whole image, squashed to the model's size."""

    def load(example: Example, row: int) -> np.ndarray:
        return whole(example.image, model.image_hw, model.in_channels, data.interpolation)

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
    around it, and of that any part of the size.

    Raises:
        CorruptImage: not an image, one that is cut short, or one too long and thin to be resized.
    """
    whole_size = image_size(image)
    shortest = covering(whole_size, size)
    with _too_thin():
        check_size(whole_size, shortest)
    pixels = whole(image, shortest, channels, interpolation)
    pixels = np.pad(pixels, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)), mode="reflect")
    top, left = (int(u * (n - s + 1)) for u, n, s in zip(draws[2:], pixels.shape, size, strict=False))
    return np.ascontiguousarray(pixels[top : top + size[0], left : left + size[1]])


def evaluated(preprocess: Preprocess) -> Load:
    """As a checkpoint's preprocessing says, by Pillow, before it is normalised."""
    channels = len(preprocess.mean)

    def load(example: Example, row: int) -> np.ndarray:
        picture = as_picture(example.image, channels)
        with _too_thin():
            pixels = preprocess.pixels(picture)
        return pixels.reshape(*pixels.shape[:2], channels)

    return load


@contextmanager
def _too_thin() -> Iterator[None]:
    """
    Raises:
        CorruptImage: an image is so long and thin that it would take gigabytes, resized.
    """
    try:
        yield
    except TooThin as error:
        raise CorruptImage(str(error)) from error
