"""From a map of patches to the image that it is about: the resize and the crop undone."""

import numpy as np
import numpy.typing as npt

from vit_convert.preprocess import Preprocess, Size


def on_image(
    heat: npt.NDArray[np.float64], preprocess: Preprocess, size: Size, drawn: Size | None = None
) -> npt.NDArray[np.float64]:
    """(rows, columns) of patches -> (height, width) of the original image: each pixel has its patch's value, and NaN
    where the crop left it out. A pixel belongs to the patch that its centre lies in.

    Args:
        size: (height, width) of the original image.
        drawn: (height, width) of what is returned, where that is a smaller picture of it.
    """
    drawn = drawn or size
    top, left, height, width = preprocess.seen(size)
    down, across = (n / of for n, of in zip(drawn, size, strict=True))
    rows, y = _patches(drawn[0], top * down, height * down, heat.shape[0])
    columns, x = _patches(drawn[1], left * across, width * across, heat.shape[1])
    spread = np.full(drawn, np.nan)
    spread[np.ix_(y, x)] = heat[np.ix_(rows[y], columns[x])]
    return spread


def _patches(
    pixels: int, start: float, length: float, count: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """For each pixel of an axis the patch that it lies in, and whether it lies in any."""
    at = np.floor((np.arange(pixels) + 0.5 - start) / length * count).astype(np.intp)
    return at, (at >= 0) & (at < count)
