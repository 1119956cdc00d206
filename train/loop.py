"""The steps of a run: one after another, logged, evaluated and saved as they go."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any

import jax
from jax import Array

from train.evaluate import Evaluate, Evaluated
from train.feed import Feed
from train.journal import Journal
from train.step import Params, State, Step
from train.window import Window

Metrics = dict[str, Array]


@dataclass(frozen=True)
class Trained:
    """What training came to. Seconds are of the loop with its evaluations, and of compiling before it."""

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

    def run(self, state: State) -> Trained:
        """All steps from the state's own on.

        Raises:
            NonFiniteLoss: a loss is infinite or no number.
        """
        config, total = self.step.config, self.step.total_steps
        eval_steps = max(1, round(config.eval_epochs * self.steps_per_epoch))
        begun, start = time.perf_counter(), int(state.step)
        with closing(self.feed.items(start)) as given:
            first = next(given)
            advance = compile_advance(self.step, self.feed, state, first)
            evaluated = self.evaluate(averaged(state))  # compiles it
            compiled = time.perf_counter()
            window, items = Window(config.batch_size), chain([first], given)
            for done in range(start + 1, total + 1):
                with window.waiting():
                    item = next(items)
                state, measured = advance(state, item)
                window.add(measured)
                place = {"step": done, "epoch": done / self.steps_per_epoch}
                evaluating = done == total or done % eval_steps == 0
                if evaluating or done % config.log.steps == 0:
                    self.journal.write(place | window.close(done) | {"seconds": time.perf_counter() - compiled})
                    for said in self.unsaid():
                        self.journal.say(said)
                if evaluating:
                    with window.pause():
                        evaluated = self.evaluate(averaged(state))
                        self.journal.write(place | evaluated.row)
        return Trained(state, evaluated, time.perf_counter() - compiled, compiled - begun)


def compile_advance(step: Step, feed: Feed, state: State, item: Any) -> Callable[[State, Any], tuple[State, Metrics]]:
    """One step together with the making of its batch, compiled, the state donated: it stays where it lies."""

    def advance(state: State, item: Any) -> tuple[State, Metrics]:
        return step.train_step(state, feed.fetch(item))

    where = jax.tree.map(lambda x: x.sharding, state)
    placed = jax.jit(advance, donate_argnums=0, out_shardings=(where, where.step))  # metrics: whole on every device
    return placed.lower(state, item).compile()


def averaged(state: State) -> Params:
    """The weights that are judged and saved: the EMA where there is one."""
    return state.params if state.ema is None else state.ema


def weights_of(state: State) -> str:
    """Which weights those are."""
    return "last" if state.ema is None else "ema"
