"""Layer scale (Touvron et al. 2021, Going deeper with image transformers, eq. 4)."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from vit_flax.sums import multiply


class LayerScale(nnx.Module):
    """A learned factor per channel: (..., D) -> (..., D)."""

    def __init__(self, dim: int, *, param_dtype: Any):
        self.gamma = nnx.Param(jnp.ones(dim, param_dtype))

    def __call__(self, x: Array) -> Array:
        return multiply(x, self.gamma.astype(x.dtype))
