"""nnx.Linear as this package uses it. mirror: torch.nn.Linear has no file of its own."""

from typing import Any

import jax
from flax import nnx
from jax import Array


def flat_dot_general(x: Array, kernel: Array, dimension_numbers: Any, **kwargs: Any) -> Array:
    """(..., I) @ (I, O) with all leading axes made one: XLA's CPU backend is far faster at it."""
    y = jax.lax.dot_general(x.reshape(-1, x.shape[-1]), kernel, (((1,), (0,)), ((), ())), **kwargs)
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


def Linear(dim: int, width: int, *, use_bias: bool = True, rngs: nnx.Rngs, dtype: Any, param_dtype: Any) -> nnx.Linear:
    """(..., dim) -> (..., width). Zeros for now: vit_flax.init gives every initial value."""
    zeros = nnx.initializers.zeros_init()
    return nnx.Linear(
        dim,
        width,
        use_bias=use_bias,
        kernel_init=zeros,
        dtype=dtype,
        param_dtype=param_dtype,
        dot_general=flat_dot_general,
        rngs=rngs,
    )
