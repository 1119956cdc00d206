"""Changes of single levels as tables of 256: an image's own, or each of its channels' own. Bit for bit Pillow's.

Legend: B images, C channels; a table is (B, 256, C) uint8.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from train.augment.colour import blend

LEVELS = np.arange(256, dtype=np.uint8)[:, None]  # a table that changes nothing, but for B and C


def look_up(images: Array, table: Array) -> Array:
    """table[level] for every pixel: uint8 (B, H, W, C), (B, 256, C) -> (B, H, W, C)."""
    channels = jnp.arange(images.shape[-1])
    return jax.vmap(lambda image, levels: levels[image, channels])(images, table)


def posterize(bits: Array) -> Array:
    """The first bits (B,) of each level: (B, 256, 1)."""
    shift = (8 - jnp.clip(bits, 0, 8))[:, None, None]
    return (((jnp.arange(256)[:, None] >> shift) << shift) & 255).astype(jnp.uint8)


def solarize(threshold: Array) -> Array:
    """Levels from threshold (B,) on inverted: (B, 256, 1). A threshold of 0 inverts all."""
    return jnp.where(threshold[:, None, None] > LEVELS, LEVELS, 255 - LEVELS)


def solarize_add(added: Array) -> Array:
    """added (B,) brightens the levels below 128: (B, 256, 1)."""
    brighter = jnp.minimum(LEVELS + added[:, None, None], 255)
    return jnp.where(LEVELS < 128, brighter, LEVELS).astype(jnp.uint8)


def brighten(factor: Array, mean: Array) -> Array:
    """Levels blended with a constant: brightness with mean 0, contrast with the image's mean: (B, 256, 1)."""
    return blend(mean.reshape(-1, 1, 1), jnp.array(LEVELS), factor[:, None, None])


def counts(images: Array) -> Array:
    """How often each level occurs: uint8 (B, H, W, C) -> (B, 256, C) int32."""
    # A TPU has no fast way to add at scattered places.
    return jax.lax.platform_dependent(images, tpu=count_by_comparing, default=count_by_adding)


def count_by_adding(images: Array) -> Array:
    """`counts`, one addition a pixel."""
    B, H, W, C = images.shape
    rows = jnp.moveaxis(images, -1, 1).reshape(B * C, H * W)
    added = jax.vmap(lambda row: jnp.zeros(256, jnp.int32).at[row].add(1))(rows)
    return jnp.moveaxis(added.reshape(B, C, 256), 1, 2)


def count_by_comparing(images: Array) -> Array:
    """`counts`, one comparison a pixel and level."""
    B, H, W, C = images.shape
    return (images.reshape(B, H * W, 1, C) == LEVELS).sum(1, dtype=jnp.int32)


def autocontrast(counts: Array) -> Array:
    """The levels that occur, stretched to 0..255: (B, 256, C) -> same. Reference: PIL.ImageOps.autocontrast."""
    levels, occurs = jnp.arange(256, dtype=jnp.int32)[:, None], counts > 0
    low, high = occurs.argmax(1, keepdims=True), 255 - occurs[:, ::-1].argmax(1, keepdims=True)
    low, high = low.astype(jnp.int32), high.astype(jnp.int32)
    stretched = jnp.clip((levels - low) * 255 // jnp.maximum(high - low, 1), 0, 255)
    short = jnp.array(_rounded_short())
    code = (low << 16) | (high << 8) | levels
    found = short[jnp.minimum(jnp.searchsorted(short, code), len(short) - 1)] == code
    return jnp.where(high > low, stretched - found, levels).astype(jnp.uint8)


@cache
def _rounded_short() -> np.ndarray:
    """Where Pillow's float64 falls short of a whole level, which it then cuts off: codes as above, sorted."""
    return np.concatenate([(low << 16) | _short_from(low) for low in range(256)])


def _short_from(low: int) -> np.ndarray:
    """Those with this lowest level: (high << 8) | level."""
    high, level = np.ogrid[:256, :256]
    span = np.maximum(high - low, 1)
    scale = 255.0 / span
    pillow, right = (level * scale + -low * scale).astype(np.int32), (level - low) * 255 // span
    return np.flatnonzero((low <= level) & (level <= high) & (low < high) & (pillow < right)).astype(np.int32)


def equalize(counts: Array) -> Array:
    """Levels about equally often: (B, 256, C) -> same. Reference: PIL.ImageOps.equalize."""
    occurs = counts > 0
    last = 255 - occurs[:, ::-1].argmax(1, keepdims=True)
    step = (counts.sum(1, keepdims=True) - jnp.take_along_axis(counts, last, axis=1)) // 255
    below = jnp.cumsum(counts, axis=1) - counts
    spread = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
    return jnp.where(step > 0, spread, LEVELS).astype(jnp.uint8)
