"""The trainer is what a plain loop of optax and Flax would do: the same recipe, seed and batches give the same losses.

The loop is written apart: public optax, nnx and NumPy alone, in float64. It is handed the trainer's batches and
initial values. Two of optax's own parts are not the recipe's: its clipping has no 1e-6 beside the norm, and its
schedules count in float32.
"""

from collections.abc import Callable
from dataclasses import replace
from math import cos, pi
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from parity_tests.compare import elementwise
from parity_tests.tolerances import LOSS
from train.config import AugmentConfig, TrainConfig
from train.input.data import Data, open_data
from train.input.order import batch_indices
from train.model import make_model
from train.recipes import RECIPES
from train.step import Batch, Step, split_model
from vit_flax import ViT

STEPS, WARMUP, SMOOTHING = 40, 8, 0.1


@pytest.fixture(scope="module")
def given() -> tuple[TrainConfig, Data]:
    """The digits' recipe with a narrower model, and without what draws at random on the way."""
    recipe = RECIPES["digits"]()
    model = recipe.model.replace(dim=16, depth=2, num_heads=2, mlp_dim=32)
    config = replace(recipe, model=model, augment=AugmentConfig(label_smoothing=SMOOTHING), drop_path=0.0)
    return config, open_data(config)


def initial(config: TrainConfig) -> dict[str, jax.Array]:
    drawn = jax.jit(make_model(config)[1])(jax.random.key(0))
    return {path: x.astype(jnp.float64) for path, x in drawn.items()}


def model_of(config: TrainConfig) -> Callable[[Any], Any]:
    """Parameters by path -> the model with them, which computes in float64."""
    return split_model(ViT(config.model, rngs=nnx.Rngs(0), param_dtype=jnp.float64))[0]


def trainers(config: TrainConfig, data: Data) -> list[float]:
    mean, std = data.preprocess.mean, data.preprocess.std
    step = Step(config, model_of(config), mean, std, WARMUP, STEPS, param_dtype=jnp.float64)
    state, advance, losses = step.init(initial(config)), jax.jit(step.train_step), []
    for at in range(STEPS):
        chosen = batch_indices(config.seed, at, len(data.train), config.batch_size)
        split = data.whole_train
        state, metrics = advance(state, Batch(jnp.asarray(split.images[chosen]), jnp.asarray(split.labels[chosen])))
        losses.append(float(metrics["loss"]))
    return losses


def plain(config: TrainConfig, data: Data, **wrong: Any) -> list[float]:
    """The loop written apart."""
    peak, decay, clip = config.schedule.learning_rate, config.optimizer.weight_decay, config.optimizer.clip_norm
    assert clip is not None
    up = [peak * step / WARMUP for step in range(WARMUP)]
    down = [peak * (1 + cos(pi * step / (STEPS - WARMUP))) / 2 for step in range(STEPS - WARMUP)]
    rates = jnp.array(up + down)

    merge, params = model_of(config), initial(config)
    decayed = {path: path.endswith("kernel") for path in params}
    rule = optax.adamw(lambda count: rates[count], weight_decay=wrong.get("decay", decay), mask=decayed)
    state = rule.init(params)

    def loss_of(params: dict[str, jax.Array], images: jax.Array, labels: jax.Array) -> jax.Array:
        targets = optax.smooth_labels(jax.nn.one_hot(labels, 10, dtype=jnp.float64), SMOOTHING)
        return optax.softmax_cross_entropy(merge(params)(images), targets).mean()

    @jax.jit
    def advance(params: Any, state: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, Any, jax.Array]:
        loss, grads = jax.value_and_grad(loss_of)(params, images, labels)
        factor = jnp.minimum(1.0, clip / (optax.tree.norm(grads) + 1e-6))
        updates, state = rule.update(jax.tree.map(lambda g: g * factor, grads), state, params)
        return optax.apply_updates(params, updates), state, loss

    losses = []
    for at in range(STEPS):
        chosen = batch_indices(config.seed, at, len(data.train), config.batch_size)
        images = data.whole_train.images[chosen] / 255
        images = (images - np.array(data.preprocess.mean)) / np.array(data.preprocess.std)
        labels = data.whole_train.labels[chosen]
        params, state, loss = advance(params, state, jnp.asarray(images), jnp.asarray(labels))
        losses.append(float(loss))
    return losses


@pytest.mark.slow
def test_a_plain_loop_written_apart_has_the_same_losses(given: tuple[TrainConfig, Data]):
    ours, theirs = trainers(*given), plain(*given)
    assert ours[-1] < 0.95 * ours[0]  # it learns
    assert elementwise(ours, theirs) < LOSS


@pytest.mark.slow
def test_another_weight_decay_would_be_seen(given: tuple[TrainConfig, Data]):
    assert np.abs(np.subtract(plain(*given), plain(*given, decay=0.49))).max() > 100 * LOSS
