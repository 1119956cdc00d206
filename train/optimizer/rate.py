"""The last factor of every rule: the learning rate that the call gives, each layer's own part of it."""

from typing import Any

import optax
from jax import Array

from train.optimizer.layers import layer_scale


def scale_by_given_rate(layer_decay: float | None, depth: int) -> optax.GradientTransformationExtraArgs:
    """Updates times minus the learning rate that the call of `update` gives; with layer_decay, times its layer's part.

    Decay is among the updates, so a layer's decay has the layer's rate, as in torch's parameter groups.
    """

    def update(updates: Any, state: Any, params: Any = None, **extra: Array) -> tuple[Any, Any]:
        rate = extra["learning_rate"]
        scales = {path: layer_scale(path, depth, layer_decay) for path in updates}
        return {path: -(rate * scales[path]).astype(u.dtype) * u for path, u in updates.items()}, state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
