"""Accuracy and loss over a whole split, every example counted once."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from train.augment import normalise
from train.step import Params, Step


def make_evaluate(step: Step, images: Array, labels: Array) -> jax.stages.Wrapped:
    """A jitted params -> (correct, loss): how many of images (N, H, W, C) are right, and the mean cross-entropy.

    The last batch is filled up to the common size, and what fills it has weight 0.
    """
    count, size = len(labels), min(len(labels), step.config.batch_size)
    fill = -count % size
    batches = (
        jnp.pad(images, ((0, fill), (0, 0), (0, 0), (0, 0))).reshape(-1, size, *images.shape[1:]),
        jnp.pad(labels, (0, fill)).reshape(-1, size),
        (jnp.arange(count + fill) < count).reshape(-1, size),
    )

    def one(params: Params, batch: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        images, labels, counts = batch
        logits = step.merge(params)(normalise(images, step.mean, step.std, step.param_dtype))
        log_probs = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
        losses = -jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]
        right = (logits.argmax(-1) == labels) & counts
        return right.sum(), jnp.where(counts, losses, 0).sum()

    def evaluate(params: Params) -> tuple[Array, Array]:
        correct, losses = jax.lax.map(partial(one, params), batches)
        return correct.sum(), losses.sum() / count

    return jax.jit(evaluate)
