"""The steps of a run: one after another, logged, evaluated and saved as they go."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import jax
from jax import Array

from train.errors import NonFiniteLoss
from train.evaluation.counts import Evaluated
from train.evaluation.split import Evaluate, never
from train.feed import Feed
from train.journal import Journal
from train.saving.saver import Progress, Saver, Unsaved
from train.step import Batch, Params, State, Step
from train.window import Window

Metrics = dict[str, Array]
Advance = Callable[[State, Any], tuple[State, Metrics]]


@dataclass(frozen=True)
class Trained:
    """What training came to. Seconds are of the loop with its evaluations, in all processes of the run up to the steps
    that were gone on from, and of this one's compiling before it."""

    state: State
    evaluated: Evaluated  # after the last step
    seconds: float
    compile_seconds: float


@dataclass(frozen=True)
class Loop:
    """What a run goes round with. Each part decides its own business; the loop only calls them in order."""

    step: Step
    feed: Feed
    evaluate: Evaluate
    journal: Journal
    steps_per_epoch: int
    unsaid: Callable[[], list[str]]  # what the data have to say since the last call
    saver: Saver | Unsaved = field(default_factory=Unsaved)
    mfu: Callable[[float], dict[str, float]] = lambda step_seconds: {}  # what is known of the devices' use

    def run(self, state: State) -> Trained:
        """All steps from the state's own on.

        Raises:
            NonFiniteLoss: a loss is infinite or no number; the message names the last good step.
            SavingError: a step or the best weights can't be written.
            Stopped: the process was told to end; its step is saved.
        """
        begun = time.perf_counter()
        with closing(self.feed.items(int(state.step))) as given:
            first = next(given)
            advance = compile_advance(self.step, self.feed.fetch, state, first)
            self.evaluate.compile(averaged(state))
            compiled = time.perf_counter()
            self.saver.begin()
            try:
                state, evaluated = self._steps(state, advance, chain([first], given))
            except NonFiniteLoss as error:
                raise NonFiniteLoss(f"{error}; {self.saver.where(error.spoilt)}", error.spoilt) from error
        seconds = self.saver.progress.seconds + time.perf_counter() - compiled
        return Trained(state, evaluated, seconds, compiled - begun)

    def _steps(self, state: State, advance: Advance, items: Iterator[Any]) -> tuple[State, Evaluated]:
        """The last state, and what it came to."""
        config, total = self.step.config, self.step.total_steps
        eval_steps = max(1, round(config.eval_epochs * self.steps_per_epoch))
        before = self.saver.progress
        begun = time.perf_counter() - before.seconds
        evaluated = self._evaluate(int(state.step), state, never) if before.unevaluated else None
        window, owed = Window(config.batch_size, self.saver.pending), False
        for done in range(int(state.step) + 1, total + 1):
            window.keep_pace()
            with window.waiting():
                item = next(items)
            state, measured = advance(state, item)
            window.add(measured)
            evaluating = done == total or done % eval_steps == 0
            if evaluating or done % config.log.steps == 0:
                row = self._place(done) | window.close(done)
                row |= {**self.mfu(row["step_seconds"]), "seconds": time.perf_counter() - begun}
                self.journal.write(row)
                if row.get("skipped"):
                    self.journal.say(f"{window.said}; {self.saver.last(window.suspect(done))}")
                self._tell()
            if evaluating:
                with window.pause():
                    told = self.saver.told if done < total else never
                    evaluated = self._evaluate(done, state, told, window.skipped_in_a_row)
            left_off = evaluating and evaluated is None
            if done < total:
                due = left_off or self.saver.due(done)
                owed = (due or owed) and not self._save(done, state, window, begun, unevaluated=left_off)
        assert evaluated is not None, "no run goes on from its last step: that one is never saved"
        return state, evaluated

    def _evaluate(
        self, done: int, state: State, stopped: Callable[[int], bool], skipped_in_a_row: int = 0
    ) -> Evaluated | None:
        """Judges the weights after this step; None if the run was told to end meanwhile: a spot machine waits for no
        whole split. The last evaluation is the result, and made in any case; so is one that was left off before.

        Raises:
            NonFiniteLoss: the held-out loss is infinite or no number.
        """
        evaluated = self.evaluate.unless(stopped, averaged(state))
        if evaluated is not None:
            self.journal.write(self._place(done) | evaluated.row)
            self._tell()
            made = done - skipped_in_a_row  # the step that made these weights
            check_finite(evaluated, done, float(self.step.learning_rate(state.step - 1)), made)
            self.saver.judged(done, evaluated.accuracy, averaged(state))
        return evaluated

    def _place(self, done: int) -> dict[str, float]:
        """How every row of metrics.jsonl begins."""
        return {"step": done, "epoch": done / self.steps_per_epoch}

    def _tell(self) -> None:
        """What the data have to say: of several hosts each of its own images."""
        for said in self.unsaid():
            self.journal.say_own(said)

    def _save(self, done: int, state: State, window: Window, begun: float, *, unevaluated: bool) -> bool:
        """Whether it was. Not where the last gradient was infinite or no number: the state after it is no good one, and
        if that update was left out, it is that of a step before, which may have spoilt it: saved again and again it
        would take the good ones' place. What a finite gradient made of the weights shows in the next loss:
        `Saver.where` sets them aside."""
        pending = window.fetch(done)
        if window.last.get("skipped") or not math.isfinite(window.last["grad_norm"]):
            return False
        with window.pause():
            self.saver.save(done, state, pending, Progress(time.perf_counter() - begun, unevaluated))
        return True


def check_finite(evaluated: Evaluated, step: int, learning_rate: float, made: int) -> None:
    """A loss is of the weights before their update: only an evaluation sees what the last update made of them.

    Args:
        made: the step whose update made the weights, where those since were left out.

    Raises:
        NonFiniteLoss: the held-out loss is infinite or no number.
    """
    if not math.isfinite(evaluated.loss):
        raise NonFiniteLoss(
            f"the held-out loss is {evaluated.loss} after step {step}, with learning rate {learning_rate:.3g}: lower "
            "schedule.learning_rate or optimizer.clip_norm",
            made,
        )


def compile_advance(step: Step, fetch: Callable[[Any], Batch], state: State, item: Any) -> Advance:
    """One step together with the making of its batch, compiled, the state donated: it stays where it lies."""

    def advance(state: State, item: Any) -> tuple[State, Metrics]:
        return step.train_step(state, fetch(item))

    where = jax.tree.map(lambda x: x.sharding, state)
    placed = jax.jit(advance, donate_argnums=0, out_shardings=(where, where.step))  # metrics: whole on every device
    return placed.lower(state, item).compile()


def averaged(state: State) -> Params:
    """The weights that are judged and saved: the EMA where there is one."""
    return state.params if state.ema is None else state.ema
