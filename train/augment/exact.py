"""Arithmetic that gives the same bits however it is compiled."""

import jax.numpy as jnp
from jax import Array


def product(a: Array, b: Array) -> Array:
    """a * b in float32, rounded: below 2^20.

    Compilers fuse a product and the sum that follows into one rounding, or not, as they see fit (contraction), and a
    pixel cut to a whole level can then come out one lower. The minimum keeps the two apart and changes nothing.
    """
    return jnp.minimum(a * b, jnp.float32(2**20))


def opaque(value: float, like: Array) -> Array:
    """A float32 constant, an element of `like` each, that the compiler doesn't know: dividing by one that it knows
    becomes multiplying by its rounded inverse. (XLA takes lax.optimization_barrier away before that.)"""
    constant = jnp.float32(value)
    return jnp.minimum(jnp.maximum(like, constant), constant)
