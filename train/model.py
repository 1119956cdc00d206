"""The model of a run and the values that it starts from."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from train.config import TrainConfig
from train.draws import init_key
from train.init import initialise
from train.mimetic import mimetic
from train.step import Params, State, Step, split_model
from vit_flax import ViT


def make_model(config: TrainConfig) -> tuple[Callable[[Params], Any], Callable[[Array], Params]]:
    """(merge, values) of the config's model: merge(params) is the model with those parameters, and values(key) draws
    the initial ones. Nothing is computed yet: values is pure, to be jitted where the parameters shall lie."""

    def make(key: Array) -> ViT:
        run: dict[str, Any] = dict(dropout=config.dropout, attn_dropout=config.attn_dropout)
        run |= dict(attention=config.attention, remat=config.remat, scan=config.scan)
        return ViT(config.model, rngs=nnx.Rngs(key), dtype=jnp.dtype(config.dtype), **run)

    def values(key: Array) -> Params:
        model_key, run_key = jax.random.split(key)
        params = initialise(split_model(make(model_key))[1], config.start, run_key)
        return mimetic(params, config.model, run_key) if config.start.mimetic else params

    merge, _ = split_model(nnx.eval_shape(make, init_key(config.seed)))
    return merge, values


def abstract_state(step: Step) -> State:
    """The shapes and dtypes of a run's state. Nothing is computed."""
    shapes = jax.eval_shape(make_model(step.config)[1], init_key(step.config.seed))
    params: Any = {path: jax.ShapeDtypeStruct(x.shape, step.param_dtype) for path, x in shapes.items()}
    return jax.eval_shape(step.init, params)
