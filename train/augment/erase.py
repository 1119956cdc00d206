"""Random erasing (Zhong et al. 2020, arXiv 1708.04896), after normalising: timm's RandomErasing with one rectangle.

What differs from timm (timm/data/random_erasing.py): noise is drawn for every pixel of the image, and used in the
rectangle.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from train.draws import EraseDraws


def erase(x: Array, draws: EraseDraws) -> Array:
    """Zeros or noise in each image's box: floating (B, H, W, C) -> same."""
    _, H, W, _ = x.shape
    top, bottom, left, right = draws.box.T[:, :, None, None, None]
    rows, columns = jnp.arange(H)[:, None, None], jnp.arange(W)[:, None]
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    noise = 0 if draws.noise is None else noise_like(draws.noise, x.shape[1:], x.dtype)
    return jnp.where(inside, noise, x)


def noise_like(keys: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Normal noise, an image a key: (B,) -> (B, *shape), drawn in float32."""
    return jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys).astype(dtype)
