"""Gradients of a batch that is computed in parts, one after the other: the memory of one part."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

Loss = Callable[..., tuple[Array, Array]]


class Inputs(NamedTuple):
    """What the model and the loss are given of one augmented batch, or of a part of it."""

    images: Array  # (B, H, W, C), normalised and mixed
    targets: Array  # (B, K)
    drop_path: Array | None  # (depth, 2, B)
    dropout: Array | None  # a key


def value_and_grad(loss: Loss, params: Any, inputs: Inputs, parts: int) -> tuple[tuple[Array, Array], Any]:
    """((loss, accuracy), gradients) of loss(params, inputs), averaged over equal parts of the batch: the whole
    batch's, for a loss that is an average over images."""
    gradient = jax.value_and_grad(loss, has_aux=True)
    if parts == 1:
        return gradient(params, inputs)

    def add(total: Any, part: Inputs) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, gradient(params, part)), None

    of_batch = split(inputs, parts)
    first = jax.tree.map(lambda x: x[0], of_batch)
    (value, aux), _ = jax.eval_shape(gradient, params, first)
    zero = (jnp.zeros(value.shape, value.dtype), jnp.zeros(aux.shape, aux.dtype)), jax.tree.map(jnp.zeros_like, params)
    total, _ = jax.lax.scan(add, zero, of_batch)
    return jax.tree.map(lambda x: x / parts, total)


def split(inputs: Inputs, parts: int) -> Inputs:
    """The parts along a new first axis. Part k has rows k, k + parts, k + 2 * parts, ...: some of every device's.

    Dropout's randomness is another one in each part; everything else is what the whole batch would have.
    """

    def rows(x: Array) -> Array:
        return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)

    masks, key = inputs.drop_path, inputs.dropout
    return Inputs(
        rows(inputs.images),
        rows(inputs.targets),
        None if masks is None else jnp.moveaxis(rows(jnp.moveaxis(masks, -1, 0)), 1, -1),
        None if key is None else jax.random.split(key, parts),
    )
