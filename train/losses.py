"""What training makes small: (logits (B, K), targets (B, K)) -> (), never below float32."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array


def soft_cross_entropy(logits: Array, targets: Array) -> Array:
    """-sum_k t_k log softmax(logits)_k, averaged over the batch."""
    logits = logits.astype(jnp.promote_types(logits.dtype, targets.dtype))
    return -(targets * jax.nn.log_softmax(logits, axis=-1)).sum(-1).mean()


def binary_cross_entropy(logits: Array, targets: Array) -> Array:
    """-(t_k log sigmoid(logits)_k + (1 - t_k) log sigmoid(-logits)_k), averaged over classes and batch.

    The mean over classes is timm's (loss/binary_cross_entropy.py), which DeiT III trains with, and whose learning
    rate, clipping and decay suit it; big_vision's sigmoid_xent is the sum: num_classes times as large.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, targets.dtype))
    return -(targets * jax.nn.log_sigmoid(logits) + (1 - targets) * jax.nn.log_sigmoid(-logits)).mean()


def binarised(targets: Array) -> Array:
    """1 for every class with a share in the target, else 0: what DeiT III gives its loss (facebookresearch/deit,
    engine.py, `targets.gt(0.0)`; Wightman et al. 2021, section 3.1)."""
    return (targets > 0).astype(targets.dtype)


LOSSES: dict[str, Callable[[Array, Array], Array]] = {"softmax": soft_cross_entropy, "sigmoid": binary_cross_entropy}
