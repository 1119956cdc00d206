"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), as torch.optim.Muon, with AdamW beside it."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from train.config import OptimizerConfig
from train.optimizer.decay import add_decay
from vit_convert.layouts.native import hub_name
from vit_convert.roles import hidden

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # of x, x x^T x and x (x^T x)^2
# The root mean square of a step is AdamW's then, and so are its learning rate and decay (Liu et al. 2025,
# arXiv 2502.16982, equation 4; torch's adjust_lr_fn="match_rms_adamw").
RMS = 0.2


def muon(config: OptimizerConfig, peak: float) -> optax.GradientTransformation:
    """Of the linear layers' kernels in blocks: the orthogonal matrix that is nearest to the momentum (Nesterov's, with
    beta1). Of all else AdamW's direction. And decay beside both.

    As torch.optim.Muon, but that the orthogonal matrix is computed in the parameters' dtype, at the run's precision of
    products, and not in bfloat16. qkv is one matrix here, as it is in timm. optax.contrib.muon divides its momentum by
    its bias to zero and adds to the norm where torch clamps it: another function.
    """
    least = 1e-7 / (1 - config.beta1)  # torch's is of a mean of gradients, and this is their sum

    def directions(updates: Any, params: Any) -> Any:
        return jax.tree.map(lambda x: RMS * max(x.shape) ** 0.5 * orthogonal(x, least), updates)

    matrices = optax.chain(optax.trace(config.beta1, nesterov=True), optax.stateless(directions))
    others = optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.eps)
    return optax.chain(
        optax.masked(matrices, matrix_mask),
        optax.masked(others, lambda params: jax.tree.map(operator.not_, matrix_mask(params))),
        add_decay(config, peak),
    )


def matrix_mask(params: Any) -> dict[str, bool]:
    """Which parameters are matrices between hidden features of blocks: the embedding of patches, attention pooling and
    the head have none."""
    return {path: hidden(hub_name(path)) for path in params}


def orthogonal(matrix: Array, least: float) -> Array:
    """Nearly the nearest orthogonal matrix: five steps of Newton and Schulz from the matrix over its norm, whose
    singular values come to lie around 1. Over `least`, where the norm is smaller."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / jnp.maximum(jnp.linalg.norm(x), least)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
