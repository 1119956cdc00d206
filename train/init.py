"""Initial values that a run chooses, where the model's own (`vit_flax/init.py`) don't suit it."""

import jax
from jax import Array

from train.config import StartConfig
from vit_convert.roles import role
from vit_flax.names import hub_name

Params = dict[str, Array]


def initialise(params: Params, config: StartConfig, key: Array) -> Params:
    """The model's own initial values, or new ones from a normal distribution where the config gives its spread."""
    spreads = {path: spread(path, x.shape, config) for path, x in params.items()}
    return {
        path: x if std is None else std * jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
        for i, ((path, x), std) in enumerate(zip(params.items(), spreads.values(), strict=True))
    }


def spread(path: str, shape: tuple[int, ...], config: StartConfig) -> float | None:
    """The standard deviation that the config gives to a parameter; None: it leaves the model's own value."""
    name = hub_name(path)
    if role(name) == "position":
        return config.pos_embed_std
    if config.fan_in_kernels and role(name) == "kernel" and name.startswith("blocks."):
        return shape[0] ** -0.5  # (in, out)
    return None
