"""The steps since the last line of metrics.jsonl, and the time since the state was saved."""

import time

AVERAGED = ("loss", "accuracy", "grad_norm")
Row = dict[str, float | int]


class Window:
    """The steps since the last line, and the seconds that they took."""

    def __init__(self, batch_size: int):
        self.batch_size, self.begun = batch_size, time.perf_counter()
        self.rows: list[dict[str, float]] = []

    def add(self, measured: dict[str, float]) -> None:
        self.rows.append(measured)

    def close(self) -> Row:
        """Means over the window, the last learning rate, images/s and seconds a step; then it is empty again."""
        seconds, count = time.perf_counter() - self.begun, len(self.rows)
        row: Row = {name: sum(measured[name] for measured in self.rows) / count for name in AVERAGED}
        row |= {
            "learning_rate": self.rows[-1]["learning_rate"],
            "images_per_second": count * self.batch_size / seconds,
            "step_seconds": seconds / count,
        }
        self.begun, self.rows = time.perf_counter(), []
        return row


class Clock:
    """When a state is saved: after so many minutes or steps."""

    def __init__(self, minutes: float | None, steps: int | None):
        self.minutes, self.steps, self.since = minutes, steps, time.monotonic()

    def due(self, step: int) -> bool:
        late = self.minutes is not None and time.monotonic() - self.since >= 60 * self.minutes
        if late or (self.steps is not None and step % self.steps == 0):
            self.since = time.monotonic()
            return True
        return False
