"""Dropout with explicit randomness (Srivastava et al. 2014)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array


def dropout(x: Array, rate: float, rngs: nnx.Rngs | None) -> Array:
    """Zeroes each value with probability `rate` and scales the rest by 1 / (1 - rate).

    Without randomness there is no dropout: no train or eval mode decides it, only this argument.
    """
    if rngs is None or rate == 0:
        return x
    keep = jax.random.bernoulli(rngs.dropout(), 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0)
