"""AdamW as optax transformations, on parameters that are a flat dict by Flax path.

The learning rate is an argument of `update`: the step counts, the schedule computes, nothing counts twice.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from train.config import OptimizerConfig
from vit_convert.roles import decays
from vit_flax.names import hub_name


def decay_mask(params: dict[str, Any]) -> dict[str, bool]:
    """Which parameters decay: by name and role, never by shape."""
    return {path: decays(hub_name(path)) for path in params}


def global_norm(grads: Any) -> Array:
    """The Euclidean norm of all gradients taken as one vector."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(grads)))


def clip(max_norm: float) -> optax.GradientTransformation:
    """Clipping by global norm as torch.nn.utils.clip_grad_norm_: with 1e-6 beside the norm, which optax has not."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        factor = jnp.minimum(1.0, max_norm / (global_norm(updates) + 1e-6))
        return jax.tree.map(lambda g: g * factor, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def scale_by_given_rate() -> optax.GradientTransformationExtraArgs:
    """Updates times minus the learning rate that the call of `update` gives."""

    def update(updates: Any, state: Any, params: Any = None, **extra: Array) -> tuple[Any, Any]:
        return jax.tree.map(lambda u: -extra["learning_rate"].astype(u.dtype) * u, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def adamw(config: OptimizerConfig) -> optax.GradientTransformationExtraArgs:
    """Clip, Adam, decay by mask, rate: `update(grads, state, params, learning_rate=...)`."""
    return optax.chain(
        clip(config.clip_norm) if config.clip_norm is not None else optax.identity(),
        optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.eps),
        optax.add_decayed_weights(config.weight_decay, mask=decay_mask),
        scale_by_given_rate(),
    )
