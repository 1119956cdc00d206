"""The norm of all gradients, and clipping by it."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array


def global_norm(grads: Any) -> Array:
    """The Euclidean norm of all gradients taken as one vector."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(grads)))


def clip(max_norm: float) -> optax.GradientTransformation:
    """Clipping by global norm as torch.nn.utils.clip_grad_norm_: with 1e-6 beside the norm, which optax has not."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        factor = jnp.minimum(1.0, max_norm / (global_norm(updates) + 1e-6))
        return jax.tree.map(lambda g: g * factor, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
