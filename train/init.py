"""Initial values that a run chooses, where the model's own (`vit_flax/init.py`) don't suit it."""

import jax
import jax.numpy as jnp
from jax import Array

from train.config import StartConfig
from vit_convert.layouts.native import hub_name
from vit_convert.roles import role

Params = dict[str, Array]
HEADS = ("head.", "head_dist.")
INSIDE = ("blocks.", "pre_logits.")  # kernels between the patches and the head


def initialise(params: Params, config: StartConfig, key: Array) -> Params:
    """The model's own initial values, or new ones from a normal distribution where the config gives its spread."""
    spreads = {path: spread(path, x.shape, config) for path, x in params.items()}
    drawn = {
        path: x if std is None else std * jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
        for i, ((path, x), std) in enumerate(zip(params.items(), spreads.values(), strict=True))
    }
    if config.layer_scale is not None:
        scales = [path for path in params if role(hub_name(path)) == "layer_scale"]
        drawn |= {path: jnp.full_like(params[path], config.layer_scale) for path in scales}
    return drawn | {path: head(path, x, config) for path, x in params.items() if path.startswith(HEADS)}


def head(path: str, x: Array, config: StartConfig) -> Array:
    """A head's own value, or the one that the config gives it."""
    if path.endswith("bias"):
        return jnp.full_like(x, config.head_bias)
    return jnp.zeros_like(x) if config.zero_head else x


def spread(path: str, shape: tuple[int, ...], config: StartConfig) -> float | None:
    """The standard deviation that the config gives to a parameter; None: it leaves the model's own value."""
    name = hub_name(path)
    if role(name) == "position":
        return config.pos_embed_std
    if config.fan_in_kernels and role(name) == "kernel" and name.startswith(INSIDE):
        return shape[0] ** -0.5  # (in, out)
    return None
