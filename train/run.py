"""A run from its config to its checkpoint."""

import json
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from train import workdir as folder
from train.config import ConfigError, TrainConfig
from train.curves import leave_curves
from train.devices import hosts
from train.devices.kernels import check_kernels
from train.devices.placement import Placement, make_placement
from train.draws import init_key
from train.errors import saving
from train.evaluation.counts import Evaluated
from train.evaluation.picture import draw_confusion
from train.evaluation.split import make_evaluate
from train.feed import make_feed
from train.flops import peak, train_flops
from train.input.data import Data, open_data, open_train
from train.input.sources import FOLDER
from train.journal import Journal
from train.loop import Loop, Trained, averaged
from train.model import abstract_state, make_model
from train.optimizer.frozen import frozen_names
from train.progress import Report
from train.replaced import KEPT, OUTPUTS, drop, let_go, put_back, sweep
from train.saving.best import Best, Evaluation
from train.saving.due import Due
from train.saving.folder import ASIDE
from train.saving.native import Native
from train.saving.portable import Portable, open_portable
from train.saving.saver import Saver
from train.sinks import Sink, check_sinks, open_sinks
from train.start import Start, open_start
from train.step import State, Step
from vit_convert.beside import beside
from vit_convert.hub import hub_shapes
from vit_convert.remove import lies_in


@dataclass(frozen=True)
class Result:
    """What a run came to. Seconds are of the training loop with its evaluations, in all processes of the run, and of
    the last one's compiling before it."""

    test_accuracy: float
    test_loss: float
    train_seconds: float
    compile_seconds: float
    weights: str  # "ema" or "last": which were evaluated and saved
    best: Evaluation  # the best one
    evaluated: Evaluated  # the last one, class by class
    state: State


def run(config: TrainConfig, workdir: Path, *, recipe: str, overwrite: bool = False) -> Result:
    """Trains, and leaves in workdir (of hosts, the first) config.json, metrics.jsonl, curves.png, confusion.png,
    classes.json, best/, with an EMA last/, and checkpoint/. A run that was stopped there goes on from its last good
    step, or from state/ if that is of a later one, if its settings are the same.

    Raises:
        ConfigError: the config doesn't fit its data, workdir may not be written, or its state/ is another run's;
            nothing was changed. Or the processes of the run have other settings or data.
        NonFiniteLoss: the run diverged; there is no checkpoint, but there may be saved steps.
        SavingError: a step, weights or another file can't be written; the message names the last good step.
        Stopped: a signal asked it to end; its step is saved.
    """
    first = hosts.is_first()
    hosts.together(lambda: recover(workdir) if first else None)
    hosts.together(lambda: check_sinks(config.log) if first else None)
    hosts.together(lambda: folder.check(workdir, overwrite=overwrite) if first else None)
    train = hosts.together(lambda: open_train(config))
    saved = None if overwrite else folder.last_step(workdir)
    config, start = hosts.together(lambda: open_start(config, train.class_names, saved))
    data = hosts.together(lambda: open_data(config, start.checkpoint.preprocess if start else None, train))
    check_hosts(data)
    hosts.together(lambda: check_kept(config, workdir, start) if overwrite else None)
    placement = make_placement(config)
    ready = Run(recipe, make_step(config, data, placement, start), data, placement, workdir, start)
    with ExitStack() as claim:
        hosts.together(lambda: claim.enter_context(folder.claimed(workdir)) if first else None)
        with restoring(workdir):
            hosts.together(lambda: folder.create(workdir, ready.written(), overwrite=overwrite) if first else None)
            return replace(ready, portable=open_portable(workdir, ready.step)).run()


def recover(workdir: Path) -> None:
    """Brings a run back whose replacement was killed before it had begun.

    Raises:
        ConfigError: the folder can't be written, or another process has it.
    """
    if (workdir / KEPT).is_dir():
        with folder.claimed(workdir):
            bring_back(workdir)


@contextmanager
def restoring(workdir: Path) -> Iterator[None]:
    """The run that was to be replaced comes back, unless the new one has begun within this."""
    try:
        yield
    except BaseException:
        bring_back(workdir)
        raise
    if hosts.is_first():
        drop(workdir)


def bring_back(workdir: Path) -> None:
    """The run that was to be replaced, if there is one and the new one hasn't begun; and says so."""
    if hosts.is_first() and put_back(workdir):
        print(f"vit-train: note: --workdir {workdir} holds the run again that was to be replaced", file=sys.stderr)


def check_kept(config: TrainConfig, workdir: Path, start: Start | None) -> None:
    """
    Raises:
        ConfigError: the run reads what its folder holds, and what would be removed with the run that was there.
    """
    removed = f"--workdir {workdir}, whose run --overwrite removes: give another --workdir"
    if start is not None and Path(config.init or "").exists():
        for read in (Path(config.init or ""), *start.checkpoint.files):
            if lies_in(read, workdir, [""]):
                raise ConfigError(f"--init {config.init} lies in {removed}")
    root = Path(config.data.name.removeprefix(FOLDER))
    for read in (root, *(root / split for split in (config.data.train_split, config.data.test_split))):
        if config.data.name.startswith(FOLDER) and lies_in(read, workdir, OUTPUTS):
            raise ConfigError(f"data.name {config.data.name} lies in {removed}")
    if config.data.dir is not None and lies_in(config.data.dir, workdir, OUTPUTS):
        raise ConfigError(f"data.dir {config.data.dir} lies in {removed}")


def check_hosts(data: Data) -> None:
    """Each host has read its own command line and opened the data that it sees. Where the data lie, and how they are
    read there, may differ; what they are may not.

    Raises:
        ConfigError: not the same on all.
    """
    settings = data.config.to_dict()
    for name in ("name", "dir", "threads", "prefetch"):
        del settings["data"][name]
    hosts.check_alike(
        settings=json.dumps(settings, sort_keys=True),
        **{"training images": data.train.fingerprint, "held-out images": data.test.fingerprint},
        classes="\n".join(data.class_names),
    )


@dataclass(frozen=True)
class Run:
    """A run whose settings, data and folder fit."""

    recipe: str
    step: Step
    data: Data
    placement: Placement
    workdir: Path
    start: Start | None
    portable: Portable | None = None  # what its folder holds as state/
    run_id: str = field(default_factory=lambda: secrets.token_hex(8))  # of a new run; one that goes on keeps its own

    def run(self) -> Result:
        """From its start, or the last good step, to its weights."""
        native, first = Native(self.step, self.data, self.placement), hosts.is_first()
        rows = self.workdir / "metrics.jsonl" if first else None
        report = Report(self.step.total_steps, quiet=not first)
        # of several hosts one that has met an error ends within guarded, and does not come to the outer restoring
        back = restoring(self.workdir) if hosts.several() else nullcontext()
        with report, self.saver(native) as saver, hosts.guarded(), back, saver.naming():
            native.describe(saver.folder)
            state = begin(self.step, self.placement, self.start, saver, self.portable)
            self.introduce(report, state, saver)
            done = int(state.step)
            if first and done == 0 and (kept := keep_rows_of_damaged(saver.folder)) is not None:
                report.say(f"no saved step is left that is good: the run begins anew; its rows until now are in {kept}")
            unevaluated = saver.progress.unevaluated
            with Journal(rows, report, done, self.sinks(done), self.begun, unevaluated=unevaluated) as journal:
                trained = make_loop(self.step, self.data, self.placement, journal, saver).run(state)
            result = self.result(trained, saver.best.found)
            self.leave(native, result, report)
        if first:
            folder.finish(self.workdir)
        return result

    def written(self) -> dict[str, Any]:
        """What config.json says of it."""
        config = self.step.config
        named = {"recipe": self.recipe, "run_id": self.run_id, "checkpoint_weights": weights_of(config)}
        return named | {"train_config": config.to_dict()}

    def saver(self, native: Native) -> Saver:
        """What saves its steps."""
        config, steps = self.step.config, self.workdir / "steps"
        due = Due(config.checkpoint, agree_steps=config.log.steps)
        due.interrupts.unbegun = lambda: bring_back(self.workdir)
        best = Best(native.write, self.workdir / "best", steps / "best.json")
        return Saver(steps, config.checkpoint.keep, self.data.position, due, best, self.check_there, self.begun)

    def begun(self) -> None:
        """A row or a step is written: the run that this one replaces isn't needed any more."""
        if hosts.is_first() and let_go(self.workdir):  # gigabytes of it are removed beside the training
            threading.Thread(target=sweep, args=(self.workdir,), daemon=True).start()

    def check_there(self) -> None:
        """
        Raises:
            FolderGone: its folder was moved or removed.
        """
        if hosts.is_first():
            folder.check_there(self.workdir)

    def sinks(self, done: int) -> list[Sink]:
        """The first process's, of a run that has made so many steps. What stops it there, such as W&B without a login,
        stops all: the others would wait for it in their next step."""
        log, settings = self.step.config.log, self.written()
        return hosts.together(lambda: open_sinks(log, self.workdir, settings, done) if hosts.is_first() else [])

    def introduce(self, report: Report, state: State, saver: Saver) -> None:
        """Says what is about to run, and what was found."""
        report.say(f"{self.recipe}: {describe(self.step.config, self.data, self.step, state)}")
        for said in (*saver.said, *saver.best.said):
            report.say(said)
        if (portable := later(self.portable, saver.good)) is not None:
            report.say(f"going on from {portable.folder}, the state after {portable.step:,} steps of {portable.rule}")
        elif saver.good is not None:
            report.say(f"going on from {saver.folder / str(saver.good)}")
        elif self.start:
            for said in self.start.said:
                report.say(f"{self.step.config.init}: {said}")

    def result(self, trained: Trained, best: Evaluation) -> Result:
        """What the last evaluation said."""
        found, weights = trained.evaluated, weights_of(self.step.config)
        seconds = trained.seconds, trained.compile_seconds
        return Result(found.accuracy, found.loss, *seconds, weights, best, found, trained.state)

    def leave(self, native: Native, result: Result, report: Report) -> None:
        """Writes the weights and the pictures; checkpoint/ is the last, for then the run is complete."""
        self.check_there()
        if result.state.ema is not None:
            native.write(result.state.params, self.workdir / "last")
        if hosts.is_first():
            said = f"held-out accuracy {result.test_accuracy:.2%} ({result.weights} weights)"
            title = f"{self.recipe}: {said}, {result.train_seconds:.0f} s"
            if undrawn := leave_curves(self.workdir, title, self.step.config.loss):
                report.say(undrawn)
            write_classes(result.evaluated.by_class(self.data.class_names), self.workdir / "classes.json")
            if result.evaluated.confusion is not None:
                draw_confusion(result.evaluated.confusion, self.data.class_names, self.workdir / "confusion.png", title)
        native.write(averaged(result.state), self.workdir / "checkpoint")


def make_step(config: TrainConfig, data: Data, placement: Placement, start: Start | None) -> Step:
    """The step of a run over its data.

    Raises:
        ConfigError: fewer training images than one batch, or parts to freeze that the model doesn't have,
            or a kernel that the devices don't have.
    """
    check_kernels(config)
    frozen_names(config.optimizer.frozen, hub_shapes(config.model))
    count, preprocess = len(data.train), data.preprocess
    warmup_steps, total_steps = config.warmup_steps(count), config.total_steps(count)
    merge, _ = make_model(config)
    mean, std = tuple(preprocess.mean), tuple(preprocess.std)
    dtype = start.dtype if start else jnp.float32
    return Step(config, merge, mean, std, warmup_steps, total_steps, dtype, placement.gathered)


def begin(
    step: Step, placement: Placement, start: Start | None, saver: Saver, portable: Portable | None = None
) -> State:
    """The state that a run goes on from: the last good step's, or that in its folder if it is of a later one, or else
    start's values, or else random ones.

    Raises:
        ConfigError: the step was saved with other data, or a checkpoint that can't be read to its end.
    """
    key, (_, values) = init_key(step.config.seed), make_model(step.config)
    if (found := later(portable, saver.good)) is not None:
        saver.best.restore(saver.best.to_dict())  # better weights than these may be there
        return found.state(placement.abstract(abstract_state(step)))
    if saver.good is not None:
        return hosts.together(lambda: saver.restore(placement.abstract(abstract_state(step))))
    if start is not None:
        return placement.init(step.init, hosts.together(lambda: start.params(placement.put)))
    return placement.init(lambda key: step.init(values(key)), key)


def keep_rows_of_damaged(steps: Path) -> Path | None:
    """Moves the rows of a run that begins anew, for all its steps were set aside, to where those are; None of another,
    whose rows all come again."""
    rows, aside = steps.parent / "metrics.jsonl", steps / ASIDE
    kept = aside / rows.name
    if not rows.is_file() or kept.exists() or not any(path.name.isdecimal() for path in aside.glob("*")):
        return None
    return rows.rename(kept)


def later(portable: Portable | None, good: int | None) -> Portable | None:
    """The state, unless a saved step of the run is as late."""
    return None if portable is None or (good is not None and portable.step <= good) else portable


def describe(config: TrainConfig, data: Data, step: Step, state: State) -> str:
    """What is about to run, in one line."""
    parameters, devices = sum(p.size for p in state.params.values()), jax.device_count()
    where = jax.devices()[0].platform + (f" x {devices}" if devices > 1 else "")
    return (
        f"{parameters:,} parameters, {len(data.train):,} images to train on, {len(data.test):,} held out, "
        f"{step.total_steps:,} steps of {config.batch_size}, seed {config.seed}, {where}"
    )


def make_loop(step: Step, data: Data, placement: Placement, journal: Journal, saver: Saver) -> Loop:
    """The loop of a run."""
    per_epoch = step.config.steps_per_epoch(len(data.train))
    feed, evaluate = make_feed(data, placement, step.total_steps), make_evaluate(step, data, placement)
    alike = data.resident and not hosts.is_first()  # every host has read the whole set: the first one says it
    unsaid = (lambda: []) if alike else data.unsaid
    return Loop(step, feed, evaluate, journal, per_epoch, unsaid, saver, make_mfu(step.config))


def make_mfu(config: TrainConfig) -> Callable[[float], dict[str, float]]:
    """Seconds of a step -> the model's share of what all devices could compute in them, where that is known."""
    of_one, flops = peak(jax.devices()[0], config.dtype), train_flops(config)
    if of_one is None:
        return lambda step_seconds: {}
    return lambda step_seconds: {"mfu": flops / (step_seconds * of_one * jax.device_count())}


def write_classes(rows: list[dict[str, Any]], path: Path) -> None:
    """A line for each class."""
    with saving(path), beside(path) as temporary:
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        temporary.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def weights_of(config: TrainConfig) -> str:
    """Which weights are judged and saved as the checkpoint."""
    return "last" if config.ema_decay is None else "ema"
