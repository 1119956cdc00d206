"""Accuracy and loss over a whole split, every example counted once."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from train.augment import normalise
from train.devices.placement import Placement, put
from train.step import Params, Step


def make_evaluate(
    step: Step, images: np.ndarray, labels: np.ndarray, placement: Placement
) -> Callable[[Params], tuple[Array, Array]]:
    """params -> (correct, loss): how many of images (N, H, W, C) are right, and the mean cross-entropy.

    The last batch is filled up to the common size, which the devices can share, and what fills it has weight 0.
    The images lie on the devices, each its share.
    """
    count, parts = len(labels), placement.parts
    size = -(-min(count, step.config.batch_size) // parts) * parts
    fill = -count % size
    rows = (
        np.pad(images, ((0, fill), (0, 0), (0, 0), (0, 0))),
        np.pad(labels, (0, fill)),
        np.arange(count + fill) < count,
    )
    batches = [put(x.reshape(-1, size, *x.shape[1:]), placement.batches) for x in rows]

    def one(params: Params, batch: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        images, labels, counts = batch
        logits = step.merge(params)(normalise(images, step.mean, step.std, step.param_dtype))
        log_probs = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
        losses = -jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]
        right = (logits.argmax(-1) == labels) & counts
        return right.sum(), jnp.where(counts, losses, 0).sum()

    def evaluate(params: Params, batches: Any) -> tuple[Array, Array]:
        correct, losses = jax.lax.map(partial(one, params), batches)
        return correct.sum(), losses.sum() / count

    return partial(jax.jit(evaluate, out_shardings=placement.replicated), batches=batches)
