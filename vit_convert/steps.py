"""The one-way changes: named functions that say what they did. A rule never loses anything; these may."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from vit_convert.config import ViTConfig
from vit_convert.positions import resize_table

Stream = Iterable[tuple[str, np.ndarray]]


class Change(NamedTuple):
    """What a step leaves: the changed config, the changed stream of (hub name, array), and what it did."""

    config: ViTConfig
    tensors: Iterator[tuple[str, np.ndarray]]
    said: str


def resize_positions(config: ViTConfig, tensors: Stream, image_size: int | tuple[int, int]) -> Change:
    """Resizes a learned position table for another image size, by the config's own rule (`pos_resize`).

    Rows of prefix tokens stay as they are. The resize is computed in float64 and rounded to the table's dtype.

    Raises:
        ValueError: the patches don't divide the image size.
    """
    resized = config.replace(image_size=image_size)
    if resized.grid == config.grid or config.pos_embed != "learned":
        return Change(resized, iter(tensors), f"positions unchanged at {resized.image_hw}")
    said = f"positions resized from {config.grid} to {resized.grid} by {config.pos_resize}"
    return Change(resized, (_resize(config, resized, name, array) for name, array in tensors), said)


def _resize(config: ViTConfig, resized: ViTConfig, name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    if name != "pos_embed":
        return name, array
    prefix, table = array[:, : config.num_pos_prefix], array[0, config.num_pos_prefix :]
    table = resize_table(table.reshape(*config.grid, config.dim), resized.grid, config.pos_resize)
    return name, np.concatenate([prefix, table.reshape(1, -1, config.dim)], axis=1)
