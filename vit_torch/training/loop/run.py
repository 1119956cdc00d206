"""A run from its settings to its checkpoint: step after step, shown, judged and saved as it goes."""

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import torch

from vit_convert.config import ViTConfig
from vit_torch.training.hyper import Hyper
from vit_torch.training.loop import recipe as of
from vit_torch.training.loop import saved
from vit_torch.training.loop.data import Data, open_sources, read_data
from vit_torch.training.loop.drawing import batch_indices, draw
from vit_torch.training.loop.ending import told_to_end
from vit_torch.training.loop.errors import Diverged
from vit_torch.training.loop.journal import Journal
from vit_torch.training.loop.judge import judge, judged_weights
from vit_torch.training.loop.settings import MODEL, Settings, flat
from vit_torch.training.loop.start import start_model
from vit_torch.training.loop.window import Clock, Row, Window
from vit_torch.training.loop.workdir import check_kept, prepare
from vit_torch.training.schedule import learning_rate
from vit_torch.training.state import State, init_state
from vit_torch.training.step import train_step
from vit_torch.vit import ViT


@dataclass
class Run:
    """A run whose settings, data and folder fit. `model` and `state` are what its steps change. A context manager:
    until it is left its folder is its own."""

    settings: Settings
    data: Data
    hyper: Hyper
    model: ViT
    state: State
    workdir: Path | None
    held_out: Row | None = None  # the last evaluation
    claim: ExitStack = field(default_factory=ExitStack)  # on its folder

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.claim.close()

    def go(self, until: int) -> int:
        """Makes its steps, up to this number of them; the number of the signal that ended it before, or 0.

        Raises:
            Diverged: a loss that isn't finite.
            CheckpointError, Unwritten: the state or metrics.jsonl can't be written.
        """
        per_epoch = of.steps_per_epoch(self.settings, len(self.data.train.labels))
        every, judging = self.settings["log.steps"], max(1, round(self.settings["eval_epochs"] * per_epoch))
        begun, window = time.perf_counter(), Window(self.settings["batch_size"])
        clock = Clock(self.settings["checkpoint.minutes"], self.settings["checkpoint.steps"])
        with Journal(self.workdir, self.hyper.total_steps, self.state.step) as journal, told_to_end() as told:
            while self.state.step < until and not told.number:
                window.add(self.step())
                done = self.state.step
                place: Row = {"step": done, "epoch": done / per_epoch}
                evaluating = done == self.hyper.total_steps or done % judging == 0
                if evaluating or done % every == 0:
                    journal.write(place | window.close() | {"seconds": time.perf_counter() - begun})
                if evaluating:
                    self.held_out = self.judged()
                    journal.write(place | self.held_out)
                    window = Window(self.settings["batch_size"])
                if clock.due(done):
                    self.save()
        self.save()
        return told.number

    def step(self) -> dict[str, float]:
        """One step, whose examples and draws are a function of (seed, step)."""
        seed, step, size = self.settings["seed"], self.state.step, self.settings["batch_size"]
        train, config = self.data.train, self.model.config
        chosen = torch.tensor(batch_indices(seed, step, len(train.labels), size))
        shape = (size, *config.image_hw)
        draws = draw(seed, step, shape, config.depth, of.make_chances(self.settings), of.dtype_of(self.settings))
        measured = train_step(self.model, self.state, train.images[chosen], train.labels[chosen], draws, self.hyper)
        for name, what in (("loss", "loss"), ("grad_norm", "gradient's norm")):
            if not math.isfinite(measured[name]):
                raise self.diverged(f"the {what} is {measured[name]} at step {step + 1}", measured["learning_rate"])
        return measured

    def diverged(self, what: str, learning_rate: float) -> Diverged:
        return Diverged(
            f"{what}, with learning rate {learning_rate:.3g}: lower schedule.learning_rate or optimizer.clip_norm"
        )

    def judged(self) -> Row:
        """The held-out split, judged by the weights that will be saved."""
        weights = judged_weights(self.model, self.state, self.hyper)
        row = judge(self.model, weights, self.data.test, self.hyper, self.settings["batch_size"])
        if not math.isfinite(row["test_loss"]):
            raise self.spoilt(f"the held-out loss is {row['test_loss']}")
        return row

    def spoilt(self, what: str) -> Diverged:
        """By the last update: a loss is of the weights before it."""
        done = self.state.step
        return self.diverged(f"{what} after step {done}", learning_rate(done - 1, self.hyper))

    def save(self) -> None:
        """Its state, where it has a folder.

        Raises:
            Diverged: the last update made infinite weights, or none: the state before it stays.
        """
        if self.workdir is not None:
            if not all(param.isfinite().all() for param in self.model.parameters()):
                raise self.spoilt("weights are not finite")
            saved.save(self.workdir, self.model, self.state, self.hyper)

    def leave(self) -> None:
        """The checkpoint, which makes the run complete; the model has its weights then."""
        self.model.load_state_dict(judged_weights(self.model, self.state, self.hyper), strict=True)
        if self.workdir is not None:
            place, names = self.workdir / "checkpoint", self.data.class_names
            self.model.save_pretrained(place, preprocess=self.data.preprocess, labels=names)


def open_run(recipe: str, settings: Settings, workdir: Path | None, *, overwrite: bool = False) -> Run:
    """A run that is about to begin, or to go on from the state in its folder.

    Raises:
        Refused: settings that don't fit their data or model, or a folder that must not be written; nothing is changed.
        CheckpointError: a state that can't be read, or is another run's.
    """
    sources = open_sources(settings)
    model = start_model(settings, sources[0].class_names)
    settings = with_model(settings, model.config)  # a checkpoint to start from decides it
    data = read_data(settings, sources, model.config, model.preprocess)
    count, p = len(data.train.labels), data.preprocess
    hyper = of.make_hyper(
        settings,
        mean=p.mean,
        std=p.std,
        warmup_steps=of.warmup_steps(settings, count),
        total_steps=of.total_steps(settings, count),
    )
    of.check_frozen(hyper.frozen, [name for name, _ in model.named_parameters()])
    if overwrite and workdir is not None:
        check_kept(settings, workdir)
    with ExitStack() as claim:
        goes_on = workdir is not None and prepare(workdir, recipe, settings, overwrite=overwrite, claim=claim)
        state = saved.load(workdir, model, hyper) if goes_on and workdir else init_state(model, hyper)
        return Run(settings, data, hyper, model, state, workdir, claim=claim.pop_all())


def with_model(settings: Settings, config: ViTConfig) -> Settings:
    """The settings, of this model."""
    rest = {name: value for name, value in settings.items() if not name.startswith(MODEL)}
    return rest | flat({"model": config.to_dict()})
