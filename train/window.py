"""The steps since the last line of metrics.jsonl."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import jax
from jax import Array

from train.errors import NonFiniteLoss

AVERAGED = ("loss", "accuracy", "grad_norm")


class Window:
    """The steps since the last line: their metrics stay on the device until the line is written.

    Time is that of training alone: `pause` keeps evaluations and saving out of it.
    """

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self._empty()

    def _empty(self) -> None:
        self.begun, self.waited, self.paused, self.measured = time.perf_counter(), 0.0, 0.0, []

    def add(self, measured: dict[str, Array]) -> None:
        """Takes in the metrics of one step."""
        self.measured.append(measured)

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

    def close(self, done: int) -> dict[str, float]:
        """Means over the window, the last learning rate, images/s, seconds a step, the share of them spent waiting for
        input; then the window is empty again.

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
        seconds = time.perf_counter() - self.begun - self.paused
        result = {name: float(sum(row[name] for row in rows) / len(rows)) for name in AVERAGED}
        result |= {
            "learning_rate": float(rows[-1]["learning_rate"]),
            "images_per_second": len(rows) * self.batch_size / seconds,
            "step_seconds": seconds / len(rows),
            "input_wait": self.waited / seconds,
        }
        self._empty()
        return result
