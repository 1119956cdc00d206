"""Which part of an image a step sees: drawn on the host, a function of (seed, step) and the row in the batch alone."""

from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np

TRIES = 10
ASPECT = (3 / 4, 4 / 3)  # width over height


@dataclass(frozen=True)
class Box:
    """A rectangle of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


def crop_draws(seed: int, step: int, batch_size: int) -> np.ndarray:
    """Uniform numbers in [0, 1) for every row of the whole batch: (batch_size, TRIES, 4) float64.

    From Philox's raw bits, which NumPy keeps the same from version to version (NEP 19); it does not promise that of
    its Generator's methods.
    """
    bits = np.random.Philox(key=np.array([seed, step], np.uint64)).random_raw(batch_size * TRIES * 4)
    return ((bits >> np.uint64(11)) * 2.0**-53).reshape(batch_size, TRIES, 4)


def random_resized_box(height: int, width: int, min_area: float, draws: np.ndarray) -> Box:
    """Inception's crop (Szegedy et al. 2015, section 6), as torchvision's RandomResizedCrop.get_params: a part of
    min_area to 1 of the image's area, of aspect 3/4 to 4/3; after ten that don't fit, the largest central one.

    Args:
        draws: (TRIES, 4) uniform numbers: area, aspect, top, left.
    """
    for area, aspect, top, left in draws.tolist():
        target = height * width * (min_area + area * (1 - min_area))
        ratio = exp(log(ASPECT[0]) + aspect * (log(ASPECT[1]) - log(ASPECT[0])))
        w, h = round(sqrt(target * ratio)), round(sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            return Box(int(top * (height - h + 1)), int(left * (width - w + 1)), h, w)
    return central_box(height, width)


def central_box(height: int, width: int) -> Box:
    """The largest box in the middle with an aspect of 3/4 to 4/3."""
    ratio = width / height
    w = round(height * ASPECT[1]) if ratio > ASPECT[1] else width
    h = round(width / ASPECT[0]) if ratio < ASPECT[0] else height
    return Box((height - h) // 2, (width - w) // 2, h, w)
