"""Where in an intermediate a value stands, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vit_convert.config import ViTConfig


@dataclass(frozen=True)
class Place:
    """The largest disagreement of an intermediate."""

    name: str  # of the intermediate
    where: str  # "image 0: china, token patch (3, 4), channel 17"
    torch: float  # what stands there
    flax: float


def place_of(config: ViTConfig, images: Sequence[str], name: str, torch: np.ndarray, flax: np.ndarray) -> Place:
    """Where two arrays of one intermediate differ the most; what isn't finite differs the most of all.

    Args:
        images: their names.
    """
    difference = np.abs(torch - flax)
    flat = int(np.argmax(np.where(np.isfinite(difference), difference, np.inf)))
    index = tuple(int(i) for i in np.unravel_index(flat, difference.shape))
    words = ", ".join((f"image {images[index[0]]}", *_axes(config, name, index[1:])))
    return Place(name, words, float(torch[index]), float(flax[index]))


def _axes(config: ViTConfig, name: str, index: tuple[int, ...]) -> list[str]:
    if name.endswith(".attn.weights"):
        head, query, key = index
        return [f"head {head}", f"from {token(config, query)} to {token(config, key)}"]
    if name == "attn_pool.weights":  # of patches alone
        head, patch = index
        return [f"head {head}", token(config, config.num_prefix + patch)]
    if name == "embeddings" or name == "norm" or name.startswith("blocks."):
        return [token(config, index[0]), f"channel {index[1]}"]
    if name == "pooled" and len(index) == 2:  # class_dist: of the class and the distillation token
        return [token(config, index[0]), f"channel {index[1]}"]
    whole = name == "pooled" or not config.num_classes
    return [f"{'channel' if whole else 'class'} {index[0]}"]


def token(config: ViTConfig, index: int) -> str:
    """The name of a token of [class, distillation, registers, patches]."""
    prefix = ["class token"] * config.class_token + ["distillation token"] * config.dist_token
    prefix += [f"register {i}" for i in range(config.num_registers)]
    if index < len(prefix):
        return prefix[index]
    row, column = divmod(index - len(prefix), config.grid[1])
    return f"patch ({row}, {column})"
