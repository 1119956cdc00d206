"""The steps since the last line of metrics.jsonl."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import jax
from jax import Array

from train.errors import NonFiniteLoss

AVERAGED = ("loss", "accuracy", "grad_norm")
MOST_SKIPPED = 100  # updates left out one after the other: such a run does not come back


class Window:
    """The steps since the last line: their metrics stay on the device until the line is written.

    Time is that of training alone: `pause` keeps evaluations and saving out of it.
    """

    def __init__(self, batch_size: int, pending: Sequence[Mapping[str, float]] = ()):
        """Of a run that was stopped: metrics of the steps that it had made since the last line."""
        self.batch_size = batch_size
        self.last: Mapping[str, float] = {}  # metrics of the last step that was fetched
        self.said = ""  # which updates were left out before the last line
        self.skipped_in_a_row = 0  # updates that were left out one after the other, up to the last step
        self._empty()
        self.rows += pending

    def _empty(self) -> None:
        self.begun, self.waited, self.paused, self.made = time.perf_counter(), 0.0, 0.0, 0
        self.measured: list[dict[str, Array]] = []
        self.rows: list[Mapping[str, float]] = []

    def add(self, measured: dict[str, Array]) -> None:
        """Takes in the metrics of one step."""
        self.measured.append(measured)
        self.made += 1

    def keep_pace(self) -> None:
        """Waits for the step before the last one: what is waited for after that is input, and few batches lie on the
        device. Steps are given to it one ahead, so that it never waits for this."""
        if len(self.measured) > 1:
            jax.block_until_ready(self.measured[-2])

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what waits for input."""
        begun = time.perf_counter()
        yield
        self.waited += time.perf_counter() - begun

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Around what is no training."""
        begun = time.perf_counter()
        yield
        self.paused += time.perf_counter() - begun

    def fetch(self, done: int) -> list[Mapping[str, float]]:
        """The metrics of all steps since the last line, from the device.

        Raises:
            NonFiniteLoss: naming the first step whose loss or gradient was: the weights after it are lost. A loss is of
                the weights before its own step's update, and before those that were left out.
        """
        fetched: list[dict[str, float]] = jax.tree.map(float, jax.device_get(self.measured))
        self.measured = []
        for step, row in enumerate(fetched, start=done - len(fetched) + 1):
            self.skipped_in_a_row = self.skipped_in_a_row + 1 if row.get("skipped") else 0
            finite = math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])
            if self.skipped_in_a_row >= MOST_SKIPPED or not (finite or row.get("skipped")):
                good = math.isfinite(row["loss"]) and not self.skipped_in_a_row
                spoilt = None if good else step - max(1, self.skipped_in_a_row)
                raise NonFiniteLoss(_what_happened(step, row, self.skipped_in_a_row), spoilt)
        self.rows += fetched
        self.last = self.rows[-1] if self.rows else self.last
        return self.rows

    def suspect(self, done: int) -> int | None:
        """The step whose weights have given no finite loss since: those after the last update that was made. None if
        they have, or none was left out since."""
        return done - self.skipped_in_a_row if self.skipped_in_a_row and not math.isfinite(self.last["loss"]) else None

    def close(self, done: int) -> dict[str, float]:
        """Means over the window, how many updates were left out if any were, the last learning rate, images/s,
        seconds a step, the share of them spent waiting for input; then the window is empty again. Times are of the
        steps that this process made.

        Raises:
            NonFiniteLoss: naming the first step that was.
        """
        rows = self.fetch(done)
        seconds = time.perf_counter() - self.begun - self.paused
        kept = [row for row in rows if not row.get("skipped")]
        self.said = _left_out(rows, done)
        result = {name: sum(row[name] for row in kept) / len(kept) for name in AVERAGED if kept}
        result |= {"skipped": len(rows) - len(kept)} if len(kept) < len(rows) else {}
        result |= {
            "learning_rate": rows[-1]["learning_rate"],
            "images_per_second": self.made * self.batch_size / seconds,
            "step_seconds": seconds / self.made,
            "input_wait": self.waited / seconds,
        }
        self._empty()
        return result


def _left_out(rows: Sequence[Mapping[str, float]], done: int) -> str:
    """The first update that was, and how many more; empty if none was."""
    skipped = [(step, row) for step, row in enumerate(rows, start=done - len(rows) + 1) if row.get("skipped")]
    if not skipped:
        return ""
    step, row = skipped[0]
    more = f" (and {len(skipped) - 1} more up to step {skipped[-1][0]})" if len(skipped) > 1 else ""
    return (
        f"left out the update of step {step}{more}: its loss is {row['loss']}, with learning rate "
        f"{row['learning_rate']:.3g} and gradient norm {row['grad_norm']:.3g}"
    )


def _what_happened(step: int, row: Mapping[str, float], skipped_in_a_row: int) -> str:
    again = f", and {skipped_in_a_row} updates in a row were left out" if skipped_in_a_row else ""
    return (
        f"the loss is {row['loss']} at step {step}, with learning rate {row['learning_rate']:.3g} and "
        f"gradient norm {row['grad_norm']:.3g}{again}: lower schedule.learning_rate or optimizer.clip_norm"
    )
