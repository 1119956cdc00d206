"""The trainer is what a plain loop of optax and Flax would do: the same recipe, seed and batches give the same losses.

The loop is written apart: public optax, nnx and NumPy alone, in float64; mixing, smoothing, clipping, the schedule and
the average are its own. It is handed the trainer's batches, draws and initial values. Two of optax's own parts are not
the recipe's: its clipping has no 1e-6 beside the norm, and its schedules count in float32.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from math import cos, pi
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from safetensors.numpy import load_file

from parity_tests.compare import elementwise, gap
from parity_tests.tolerances import FLOAT32_CHAIN, LOSS, PARAMETERS
from train.__main__ import main
from train.config import TrainConfig
from train.draws import Draws, init_key, step_key
from train.input.data import Data, open_data
from train.input.order import batch_indices
from train.model import make_model
from train.recipes import RECIPES
from train.step import Batch, Step, split_model
from vit_convert.layouts.native import hub_name
from vit_flax import ViT

STEPS, CLASSES, SMOOTHING = 40, 10, 0.1
WARMUP = 0.5  # epochs
NARROW = dict(dim=16, depth=2, num_heads=2, mlp_dim=32)


class Came(NamedTuple):
    """What a run came to: losses, and the averaged parameters by Flax path."""

    losses: list[float]
    average: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def given() -> tuple[TrainConfig, Data]:
    """The digits' recipe with a narrower model: MixUp, CutMix, smoothing, stochastic depth, clipping, an average."""
    recipe = RECIPES["digits"]()
    schedule = replace(recipe.schedule, warmup_epochs=WARMUP)
    config = replace(recipe, model=recipe.model.replace(**NARROW), schedule=schedule, steps=STEPS)
    return config, open_data(config)


def initial(config: TrainConfig) -> dict[str, jax.Array]:
    drawn = jax.jit(make_model(config)[1])(init_key(config.seed))
    return {path: x.astype(jnp.float64) for path, x in drawn.items()}


def model_of(config: TrainConfig) -> Callable[[Any], Any]:
    """Parameters by path -> the model with them, which computes in float64."""
    return split_model(ViT(config.model, rngs=nnx.Rngs(0), param_dtype=jnp.float64))[0]


def step_of(config: TrainConfig, data: Data) -> Step:
    count, p = len(data.train), data.preprocess
    warmup, total = config.warmup_steps(count), config.total_steps(count)
    return Step(config, model_of(config), p.mean, p.std, warmup, total, param_dtype=jnp.float64)


def chosen(config: TrainConfig, data: Data, at: int) -> tuple[np.ndarray, np.ndarray]:
    """The trainer's batch: images (B, H, W, 1) uint8 and labels (B,)."""
    indices = batch_indices(config.seed, at, len(data.train), config.batch_size)
    return data.whole_train.images[indices], data.whole_train.labels[indices]


def trainers(config: TrainConfig, data: Data) -> Came:
    step = step_of(config, data)
    state, advance, losses = step.init(initial(config)), jax.jit(step.train_step), []
    for at in range(STEPS):
        images, labels = chosen(config, data, at)
        state, metrics = advance(state, Batch(jnp.asarray(images), jnp.asarray(labels)))
        losses.append(float(metrics["loss"]))
    assert state.ema is not None
    return Came(losses, {path: np.asarray(x) for path, x in state.ema.items()})


def plain(config: TrainConfig, data: Data, **wrong: Any) -> Came:
    """The loop written apart."""
    peak, decay, clip = config.schedule.learning_rate, config.optimizer.weight_decay, config.optimizer.clip_norm
    assert clip is not None
    assert config.ema_decay is not None
    warmup = round(WARMUP * (len(data.train) // config.batch_size))
    up = [peak * step / warmup for step in range(warmup)]
    down = [peak * (1 + cos(pi * step / (STEPS - warmup))) / 2 for step in range(STEPS - warmup)]
    rates = jnp.array(up + down)

    merge, params = model_of(config), initial(config)
    average: Any = params
    decayed = {path: path.endswith("kernel") for path in params}
    rule = optax.adamw(lambda count: rates[count], weight_decay=wrong.get("decay", decay), mask=decayed)
    state = rule.init(params)

    def loss_of(params: Any, images: jax.Array, targets: jax.Array, drop_path: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy(merge(params)(images, drop_path=drop_path), targets).mean()

    @jax.jit
    def advance(params: Any, state: Any, *batch: jax.Array) -> tuple[Any, Any, jax.Array]:
        loss, grads = jax.value_and_grad(loss_of)(params, *batch)
        factor = jnp.minimum(1.0, clip / (optax.tree.norm(grads) + 1e-6))
        updates, state = rule.update(jax.tree.map(lambda g: g * factor, grads), state, params)
        return optax.apply_updates(params, updates), state, loss

    draw, losses = step_of(config, data).draw, []
    for at in range(STEPS):
        images, labels = chosen(config, data, at)
        draws = draw(step_key(config.seed, jnp.asarray(at)), images.shape[:3])
        batch = mixed(normalised(images, data), labels, jax.tree.map(np.asarray, draws), wrong.get("swapped", False))
        params, state, loss = advance(params, state, *map(jnp.asarray, batch), draws.drop_path)
        average = optax.incremental_update(params, average, 1 - config.ema_decay)
        losses.append(float(loss))
    return Came(losses, {path: np.asarray(average[path]) for path in params})


def normalised(images: np.ndarray, data: Data) -> np.ndarray:
    return (images / 255 - np.array(data.preprocess.mean)) / np.array(data.preprocess.std)


def mixed(images: np.ndarray, labels: np.ndarray, draws: Draws, swapped: bool) -> tuple[np.ndarray, np.ndarray]:
    """MixUp or CutMix of images and of their smoothed labels."""
    targets, others = (1 - SMOOTHING) * np.eye(CLASSES)[labels] + SMOOTHING / CLASSES, images[draws.partner]
    share = float(draws.lam)
    if draws.use_cutmix:
        top, bottom, left, right = draws.box
        images = images.copy()
        images[:, top:bottom, left:right] = others[:, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (images.shape[1] * images.shape[2])
    else:
        images = share * images + (1 - share) * others
    share = 1 - share if swapped else share
    return images, share * targets + (1 - share) * targets[draws.partner]


@pytest.fixture(scope="module")
def plains(given: tuple[TrainConfig, Data]) -> Came:
    return plain(*given)


@pytest.mark.slow
def test_a_plain_loop_written_apart_has_the_same_losses_and_averaged_weights(
    given: tuple[TrainConfig, Data], plains: Came
):
    ours = trainers(*given)
    assert np.ptp(ours.losses) > 0.1
    assert elementwise(ours.losses, plains.losses) < LOSS
    assert ours.average.keys() == plains.average.keys()
    for path, x in plains.average.items():
        assert gap(ours.average[path], x) < PARAMETERS


@pytest.mark.slow
def test_the_command_has_the_losses_and_weights_of_the_plain_loop(
    given: tuple[TrainConfig, Data], plains: Came, tmp_path: Path
):
    """As it is run, in float32: its feed, its loop, its journal, and what it saves."""
    narrow = [f"--model.{name.replace('_', '-')}={value}" for name, value in NARROW.items()]
    short = [f"--steps={STEPS}", "--log.steps=1", f"--schedule.warmup-epochs={WARMUP}"]
    with jax.enable_x64(False):
        main(["digits", "--workdir", str(tmp_path / "run"), *narrow, *short])
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == STEPS
    assert elementwise(losses, plains.losses) < FLOAT32_CHAIN
    saved = load_file(tmp_path / "run" / "checkpoint" / "model.safetensors")
    theirs = {hub_name(path): x for path, x in plains.average.items()}
    for name in ("cls_token", "pos_embed", "norm.weight"):  # those that no layout turns
        assert gap(saved[name], theirs[name]) < FLOAT32_CHAIN


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [{"decay": 0.49}, {"swapped": True}])
def test_another_loop_would_be_seen(given: tuple[TrainConfig, Data], plains: Came, wrong: dict[str, Any]):
    assert np.abs(np.subtract(plains.losses, plain(*given, **wrong).losses)).max() > 100 * LOSS
