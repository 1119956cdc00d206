"""A run from its config to its checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from train import workdir as folder
from train.config import TrainConfig
from train.curves import draw_curves, read_rows
from train.devices import hosts
from train.devices.placement import Placement, make_placement
from train.draws import init_key
from train.evaluate import make_evaluate
from train.feed import make_feed
from train.input.data import Data, class_names, open_data
from train.journal import Journal
from train.loop import Loop, averaged, weights_of
from train.model import make_model
from train.progress import Report
from train.start import Start, open_start
from train.step import State, Step


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
    """Trains, and leaves config.json, metrics.jsonl, curves.png and checkpoint/ in workdir: of hosts, the first

    Raises:
        ConfigError: the config doesn't fit its data, or workdir may not be written; nothing was changed.
        NonFiniteLoss: the run diverged; there is no checkpoint.
    """
    first = hosts.is_first()
    hosts.together(lambda: folder.check(workdir, overwrite=overwrite) if first else None)
    config, start = hosts.together(lambda: open_start(config, class_names(config)))
    data = hosts.together(lambda: open_data(config, start.checkpoint.preprocess if start else None))
    placement = make_placement(config)
    step, state = prepare(config, data, placement, start)
    weights = weights_of(state)
    written = {"recipe": recipe, "checkpoint_weights": weights, "train_config": config.to_dict()}
    hosts.together(lambda: folder.create(workdir, written) if first else None)
    with Report(step.total_steps, quiet=not first) as report:
        report.say(f"{recipe}: {describe(config, data, step, state)}")
        for said in start.said if start else ():
            report.say(f"{config.init}: {said}")
        with Journal(workdir / "metrics.jsonl" if first else None, report) as journal:
            trained = make_loop(step, data, placement, journal).run(state)
    params = placement.gather(averaged(trained.state))
    result = Result(
        trained.evaluated.accuracy,
        trained.evaluated.loss,
        trained.seconds,
        trained.compile_seconds,
        weights,
        trained.state,
    )
    if not first:
        return result
    save(step, params, data, workdir / "checkpoint")
    title = f"{recipe}: held-out accuracy {result.test_accuracy:.2%} ({weights} weights), {result.train_seconds:.0f} s"
    draw_curves(read_rows(workdir / "metrics.jsonl"), workdir / "curves.png", title)
    return result


def prepare(config: TrainConfig, data: Data, placement: Placement, start: Start | None = None) -> tuple[Step, State]:
    """The step of a run and the state that it begins with: start's values, or else random ones.

    Raises:
        ConfigError: fewer training images than one batch, or a checkpoint that can't be read to its end.
    """
    count = len(data.train)
    warmup_steps, total_steps = config.warmup_steps(count), config.total_steps(count)
    merge, values = make_model(config)
    mean, std = data.preprocess.mean, data.preprocess.std
    step = Step(config, merge, tuple(mean), tuple(std), warmup_steps, total_steps)
    if start is not None:
        return step, placement.init(step.init, hosts.together(lambda: start.params(placement.put)))
    return step, placement.init(lambda key: step.init(values(key)), init_key(config.seed))


def describe(config: TrainConfig, data: Data, step: Step, state: State) -> str:
    """What is about to run, in one line."""
    parameters, devices = sum(p.size for p in state.params.values()), jax.device_count()
    where = jax.devices()[0].platform + (f" x {devices}" if devices > 1 else "")
    return (
        f"{parameters:,} parameters, {len(data.train):,} images to train on, {len(data.test):,} held out, "
        f"{step.total_steps:,} steps of {config.batch_size}, seed {config.seed}, {where}"
    )


def make_loop(step: Step, data: Data, placement: Placement, journal: Journal) -> Loop:
    """The loop of a run."""
    per_epoch = step.config.steps_per_epoch(len(data.train))
    feed, evaluate = make_feed(data, placement, step.total_steps), make_evaluate(step, data, placement)
    return Loop(step, feed, evaluate, journal, per_epoch, data.unsaid)


def save(step: Step, params: Any, data: Data, path: Path) -> None:
    """Writes the run's model as a native checkpoint."""
    model: Any = step.merge(params)
    model.save_pretrained(path, layout="native", preprocess=data.preprocess, labels=data.class_names)
