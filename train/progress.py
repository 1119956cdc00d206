"""What a run shows while it runs: one live line on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

QUIET_SECONDS = 10.0  # a plain line at least this often


class Report:
    """Shows the rows that a run logs; nothing with quiet. A context manager: leaving it ends the live line."""

    def __init__(self, total_steps: int, console: Console | None = None, *, quiet: bool = False):
        self.console = console or Console(highlight=False, soft_wrap=True, quiet=quiet)
        self.total = total_steps
        self.seen: dict[str, Any] = {}
        self.begun = self.last_line = time.perf_counter()
        columns = TextColumn("{task.description}"), BarColumn(bar_width=16), TextColumn("{task.fields[line]}")
        self.live = Progress(
            *columns, TimeRemainingColumn(), console=self.console, disable=not self.console.is_terminal
        )
        self.task = self.live.add_task("train", total=total_steps, line="compiling")

    def __enter__(self) -> "Report":
        self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, markup=False)

    def row(self, row: dict[str, Any]) -> None:
        """Takes in one row of metrics.jsonl."""
        self.seen.update(row)
        self.live.update(self.task, completed=row["step"], line=self.line())
        now = time.perf_counter()
        if not self.console.is_terminal and ("test_accuracy" in row or now - self.last_line > QUIET_SECONDS):
            self.last_line = now
            self.say(self.line() + f"  {self.left(now)} left")

    def line(self) -> str:
        """The run so far in one line; test accuracy is of the latest evaluation."""
        s, width = self.seen, len(str(self.total))
        parts = [f"step {s.get('step', 0):{width}}/{self.total}"]
        if "loss" in s:
            parts.append(f"loss {s['loss']:.3f}  accuracy {s['accuracy']:.1%}  {s['images_per_second']:,.0f} images/s")
        if "test_accuracy" in s:
            parts.append(f"test {s['test_accuracy']:.2%}")
        return "  ".join(parts)

    def left(self, now: float) -> str:
        """How long the rest takes at the pace so far, as m:ss."""
        done = max(1, self.seen.get("step", 0))
        seconds = round((now - self.begun) / done * (self.total - done))
        return f"{seconds // 60}:{seconds % 60:02}"
