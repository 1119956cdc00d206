"""Batches of small real pictures, as augmentation gets them."""

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits

from parity_tests.photographs import photograph

CORNERS = {"china": (60, 120), "flower": (250, 150)}


def _crop(name: str, left: int, top: int) -> npt.NDArray[np.uint8]:
    return np.asarray(photograph(name).crop((left, top, left + 72, top + 56)))


RGB = np.stack([_crop(name, *corner) for name, corner in CORNERS.items()])  # (2, 56, 72, 3)
GREY = (load_digits(return_X_y=True)[0][:4].reshape(4, 8, 8, 1) * (255 / 16)).astype(np.uint8)  # (4, 8, 8, 1)


def crops(count: int, height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """As many random crops of RGB, (count, height, width, 3)."""
    rng = np.random.default_rng(seed)
    images, rows, columns = (rng.integers(end, size=count) for end in (2, 57 - height, 73 - width))
    corners = zip(images, rows, columns, strict=True)
    return np.stack([RGB[i, top : top + height, left : left + width] for i, top, left in corners])


def pillow(image: npt.NDArray) -> Image.Image:
    """Bytes (H, W, 3) as RGB and (H, W, 1) as L, float32 (H, W) as F."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
