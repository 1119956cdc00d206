"""Attention as pictures: a photograph under the map of what was looked at."""

import io

import numpy as np
from PIL import Image

from vit_tools.attention.picture import COLOURS

SIDE = 288  # pixels of the longer side: more than the page shows
OPACITY = 0.7  # the photograph shows through, the colours still read


def plain(pixels: np.ndarray) -> Image.Image:
    """(H, W, C) uint8, as people see it."""
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, modes[pixels.shape[-1]])
    scale = SIDE / max(image.size)
    size = round(image.width * scale), round(image.height * scale)
    return image.convert("RGB").resize(size, Image.Resampling.BICUBIC)


def under(pixels: np.ndarray, attention: np.ndarray, highest: float) -> Image.Image:
    """The photograph under a map (rows, columns) whose colours reach up to `highest`."""
    from matplotlib import colormaps

    below = plain(pixels)
    shares = Image.fromarray((attention / (highest or 1.0)).astype(np.float32))
    shares = np.asarray(shares.resize(below.size, Image.Resampling.BILINEAR))
    colours = colormaps[COLOURS](np.clip(shares, 0, 1))[..., :3]
    return Image.blend(below, Image.fromarray((colours * 255).astype(np.uint8)), OPACITY)


def jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()
