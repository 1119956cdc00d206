"""Levels to numbers."""

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


def normalise(images: Array, mean: tuple[float, ...], std: tuple[float, ...], dtype: DTypeLike) -> Array:
    """uint8 (B, H, W, C) -> (pixel / 255 - mean) / std."""
    return (images.astype(dtype) / 255 - jnp.array(mean, dtype)) / jnp.array(std, dtype)
