"""What both models are shown: real photographs, prepared as the checkpoint says, and noise, in turn."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from parity_tests.photographs import photograph
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess

PHOTOGRAPHS = ("china", "flower")  # scikit-learn's
WINDOW = (160, 400)  # pixels on a side of what is cut out of them where more are asked for
# A ratio of two root mean squares scatters the less the more values it has: as many as two images give a ViT-B.
POOLED_VALUES = 2 * 768
FEWEST, MOST = 2, 32


@dataclass(frozen=True)
class Images:
    """A batch, with what people see of it."""

    arrays: np.ndarray  # (B, H, W, C) float32, prepared: a photograph, noise, a photograph, ...
    names: tuple[str, ...]  # of each
    shown: Mapping[int, np.ndarray]  # index of a photograph -> its pixels (H, W, C), uint8
    said: tuple[str, ...]  # how photographs are prepared, where the checkpoint doesn't say it


def count_for(config: ViTConfig) -> int:
    """How many images give a small model's pooled features enough values; an even number."""
    needed = -(-POOLED_VALUES // config.dim)
    return min(max(needed + needed % 2, FEWEST), MOST)


def make_images(config: ViTConfig, preprocess: Preprocess | None, count: int, seed: int) -> Images:
    """`count` images of the config's size; the same for the same seed.

    Args:
        preprocess: the checkpoint's own; None where nothing tells it.
    """
    rng = np.random.default_rng(seed)
    fitting, said = fit(config, preprocess)
    pictures = photographs(rng)
    arrays, names, shown = [], [], {}
    for i in range(count):
        if fitting is not None and i % 2 == 0:
            name, picture = next(pictures)
            pixels = fitting.pixels(picture)
            array = fitting.normalise(pixels)
            shown[i] = np.clip(pixels, 0, 255).astype(np.uint8)
        else:
            name = "noise"
            array = rng.standard_normal((*config.image_hw, config.in_channels), dtype=np.float32)
        names.append(f"{i}: {name}")
        arrays.append(array)
    return Images(np.stack(arrays), tuple(names), shown, said)


def photographs(rng: np.random.Generator) -> Iterator[tuple[str, Image.Image]]:
    """(name, picture): each photograph whole, then windows of them, without end."""
    whole = [(name, photograph(name)) for name in PHOTOGRAPHS]
    yield from whole
    while True:
        for name, picture in whole:
            side = int(rng.integers(*WINDOW))
            left, top = int(rng.integers(picture.width - side)), int(rng.integers(picture.height - side))
            yield f"{name}, {side} pixels at ({top}, {left})", picture.crop((left, top, left + side, top + side))


def fit(config: ViTConfig, found: Preprocess | None) -> tuple[Preprocess | None, tuple[str, ...]]:
    """Preprocessing that gives images of the config's size and channels, and what is to be said of it."""
    size, channels = config.image_hw, config.in_channels
    if channels not in (1, 3, 4):
        return None, (f"photographs have 1, 3 or 4 channels and the model takes {channels}: it is shown noise alone",)
    if found is None or len(found.mean) != channels:
        middle = (0.5,) * channels
        said = f"nothing tells how images are prepared: photographs are cut to {size} and scaled to -1 ... 1"
        return Preprocess(resize=size, crop=size, mean=middle, std=middle), (said,)
    return found if found.crop == size else found.resized(size), ()
