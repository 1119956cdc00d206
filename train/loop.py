"""A run from its config to its checkpoint."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from train import workdir as folder
from train.config import TrainConfig
from train.curves import draw_curves, read_rows
from train.data import Dataset, Split, load
from train.draws import batch_indices, init_key
from train.errors import NonFiniteLoss
from train.evaluate import make_evaluate
from train.init import initialise
from train.journal import Journal
from train.progress import Report
from train.step import Batch, Params, State, Step, split_model
from vit_flax import ViT


@dataclass(frozen=True)
class Result:
    """What a run came to. Seconds are of the training loop with its evaluations, and of compiling before it."""

    test_accuracy: float
    test_loss: float
    train_seconds: float
    compile_seconds: float
    weights: str  # "ema" or "last": which were evaluated and saved
    state: State


def run(config: TrainConfig, workdir: Path, *, recipe: str, overwrite: bool = False) -> Result:
    """Trains, and leaves config.json, metrics.jsonl, curves.png and checkpoint/ in workdir.

    Raises:
        ConfigError: the config doesn't fit its data, or workdir may not be written; nothing was changed.
        NonFiniteLoss: the run diverged; there is no checkpoint.
    """
    folder.check(workdir, overwrite=overwrite)
    dataset = load(config)
    step, state = prepare(config, dataset)
    weights = weights_of(state)
    folder.create(workdir, {"recipe": recipe, "checkpoint_weights": weights, "train_config": config.to_dict()})
    with Report(step.total_steps) as report:
        report.say(f"{recipe}: {describe(config, dataset, step, state)}")
        with Journal(workdir / "metrics.jsonl", report) as journal:
            result = train(step, state, dataset, journal)
    save(step, result, dataset, workdir / "checkpoint")
    title = f"{recipe}: held-out accuracy {result.test_accuracy:.2%} ({weights} weights), {result.train_seconds:.0f} s"
    draw_curves(read_rows(workdir / "metrics.jsonl"), workdir / "curves.png", title)
    return result


def prepare(config: TrainConfig, dataset: Dataset) -> tuple[Step, State]:
    """The step of a run and the state that it begins with.

    Raises:
        ConfigError: fewer training images than one batch.
    """
    count = len(dataset.train)
    warmup_steps, total_steps = config.warmup_steps(count), config.total_steps(count)
    merge, params = init_model(config)
    mean, std = dataset.preprocess.mean, dataset.preprocess.std
    step = Step(config, merge, tuple(mean), tuple(std), warmup_steps, total_steps)
    return step, step.init(params)


def init_model(config: TrainConfig) -> tuple[Callable[[Params], Any], Params]:
    """(merge, params) of the config's model with its initial values, which are drawn on the device."""

    def make(key: Array) -> ViT:
        dtype = jnp.dtype(config.dtype)
        return ViT(
            config.model, rngs=nnx.Rngs(key), dtype=dtype, dropout=config.dropout, attn_dropout=config.attn_dropout
        )

    @jax.jit  # so that values which the run replaces are never drawn
    def values(key: Array) -> Params:
        model_key, run_key = jax.random.split(key)
        return initialise(split_model(make(model_key))[1], config.start, run_key)

    key = init_key(config.seed)
    merge, _ = split_model(nnx.eval_shape(make, key))
    return merge, values(key)


def describe(config: TrainConfig, dataset: Dataset, step: Step, state: State) -> str:
    """What is about to run, in one line."""
    parameters = sum(p.size for p in state.params.values())
    return (
        f"{parameters:,} parameters, {len(dataset.train):,} images to train on, {len(dataset.test):,} held out, "
        f"{step.total_steps:,} steps of {config.batch_size}, seed {config.seed}, {jax.devices()[0].platform}"
    )


Data = tuple[Array, Array]  # all images (N, H, W, C) uint8 and labels (N,), on the device


def train(step: Step, state: State, dataset: Dataset, journal: Journal) -> Result:
    """All steps of the run, logged as they go.

    Raises:
        NonFiniteLoss: a loss is infinite or no number.
    """
    config, data = step.config, on_device(dataset.train)
    per_epoch, count = config.steps_per_epoch(len(dataset.train)), len(dataset.test)
    eval_steps = max(1, round(config.eval_epochs * per_epoch))
    begun = time.perf_counter()
    advance = compile_advance(step, state, data)
    evaluate = make_evaluate(step, *on_device(dataset.test)).lower(averaged(state)).compile()
    compiled = time.perf_counter()
    row, window = {}, Window(config.batch_size)
    for done in range(1, step.total_steps + 1):
        state, measured = advance(state, data)
        window.add(measured)
        place = {"step": done, "epoch": done / per_epoch}
        evaluating = done == step.total_steps or done % eval_steps == 0
        if evaluating or done % config.log.steps == 0:
            journal.write(place | window.close(done) | {"seconds": time.perf_counter() - compiled})
        if evaluating:
            correct, loss = (value.item() for value in evaluate(averaged(state)))
            row = {"test_accuracy": correct / count, "test_correct": correct, "test_count": count, "test_loss": loss}
            journal.write(place | row)
            window = Window(config.batch_size)
    seconds = time.perf_counter() - compiled
    return Result(row["test_accuracy"], row["test_loss"], seconds, compiled - begun, weights_of(state), state)


class Window:
    """The steps since the last line: their metrics stay on the device until the line is written."""

    def __init__(self, batch_size: int):
        self.batch_size, self.begun, self.measured = batch_size, time.perf_counter(), []

    def add(self, measured: dict[str, Array]) -> None:
        self.measured.append(measured)

    def close(self, done: int) -> dict[str, float]:
        """Means over the window, the last learning rate, images/s; then the window is empty again.

        Raises:
            NonFiniteLoss: naming the first step that was.
        """
        rows = jax.device_get(self.measured)
        for step, row in enumerate(rows, start=done - len(rows) + 1):
            if not math.isfinite(row["loss"]):
                raise NonFiniteLoss(
                    f"the loss is {row['loss']} at step {step}, with learning rate {row['learning_rate']:.3g} and "
                    f"gradient norm {row['grad_norm']:.3g}: lower schedule.learning_rate or optimizer.clip_norm"
                )
        means = {name: float(sum(row[name] for row in rows) / len(rows)) for name in ("loss", "accuracy", "grad_norm")}
        speed = len(rows) * self.batch_size / (time.perf_counter() - self.begun)
        self.begun, self.measured = time.perf_counter(), []
        return means | {"learning_rate": float(rows[-1]["learning_rate"]), "images_per_second": speed}


def compile_advance(step: Step, state: State, data: Data) -> Callable[[State, Data], tuple[State, dict[str, Array]]]:
    """One step together with the choice of its batch, compiled, the state donated."""

    def advance(state: State, data: Data) -> tuple[State, dict[str, Array]]:
        images, labels = data
        chosen = batch_indices(step.config.seed, state.step, len(labels), step.config.batch_size)
        return step.train_step(state, Batch(images[chosen], labels[chosen]))

    return jax.jit(advance, donate_argnums=0).lower(state, data).compile()


def on_device(split: Split) -> Data:
    """A copy of the split on the default device."""
    return jnp.array(split.images), jnp.array(split.labels)


def averaged(state: State) -> Params:
    """The weights that are judged and saved: the EMA where there is one."""
    return state.params if state.ema is None else state.ema


def weights_of(state: State) -> str:
    """Which weights those are."""
    return "last" if state.ema is None else "ema"


def save(step: Step, result: Result, dataset: Dataset, path: Path) -> None:
    """Writes the run's model as a native checkpoint."""
    model: Any = step.merge(averaged(result.state))
    model.save_pretrained(path, layout="native", preprocess=dataset.preprocess, labels=dataset.class_names)
