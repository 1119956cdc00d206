"""Parameters that tokens or images share: their gradients are sums over all of them, which bfloat16 can't hold.

mirror: torch's kernels add up in float32 inside, XLA in the dtype that it is given.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array


def wide(x: Array) -> Any:
    """The dtype that is summed in: float32 at least."""
    return jnp.promote_types(x.dtype, jnp.float32)


def add(x: Array, shared: Array) -> Array:
    """x + shared, rounded once to the dtype of x, whose shape `shared` is broadcast to."""
    return (x.astype(wide(x)) + shared.astype(wide(x))).astype(x.dtype)


def multiply(x: Array, shared: Array) -> Array:
    """x * shared, likewise."""
    return (x.astype(wide(x)) * shared.astype(wide(x))).astype(x.dtype)


def repeat(shared: Array, count: int) -> Array:
    """(1, ...) -> (count, ...), in the dtype of `shared`."""
    return jnp.broadcast_to(shared.astype(wide(shared)), (count, *shared.shape[1:])).astype(shared.dtype)
