"""What a run shows while it runs: a few live lines on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

QUIET_SECONDS = 10.0  # a plain line at least this often


class Report:
    """Shows the rows that a run logs; nothing with quiet. A context manager: leaving it ends the live lines."""

    def __init__(self, total_steps: int, console: Console | None = None, *, quiet: bool = False):
        self.console = console or Console(highlight=False, soft_wrap=True, quiet=quiet)
        self.total = total_steps
        self.seen: dict[str, Any] = {}
        self.last_line = time.perf_counter()
        self.first: tuple[int, float] | None = None  # step and time of the first row: a run may go on from any step
        # rich's own column for the time that is left knows none where rows come less often than twice a minute
        columns = BarColumn(bar_width=16), TextColumn("{task.fields[line]}", markup=False)
        self.live = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
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
        now = time.perf_counter()
        self.first = self.first or (row["step"], now)
        lines = self.lines(now)
        self.live.update(self.task, completed=row["step"], line="\n".join(lines))
        if not self.console.is_terminal and ("test_accuracy" in row or now - self.last_line > QUIET_SECONDS):
            self.last_line = now
            self.say("  ".join(lines))

    def lines(self, now: float) -> list[str]:
        """The run so far, in lines that fit beside the bar in a terminal of 80 columns; test accuracy is of the latest
        evaluation."""
        s, width = self.seen, len(str(self.total))
        far = [f"step {s.get('step', 0):{width}}/{self.total}", f"{self.left(now)} left"]
        if "test_accuracy" in s:
            far.append(f"test {s['test_accuracy']:.2%}")
        well, fast = [], []
        if "loss" in s:
            well = [f"loss {s['loss']:.3f}", f"accuracy {s['accuracy']:.1%}", f"{s['images_per_second']:,.0f} images/s"]
            fast = [f"{seconds(s['step_seconds'])} a step, {s['input_wait']:.0%} of it waiting"]
        if "mfu" in s:
            fast.append(f"MFU {s['mfu']:.1%}")
        return ["  ".join(parts) for parts in (far, well, fast) if parts]

    def left(self, now: float) -> str:
        """How long the rest takes at the pace so far, as h:mm:ss or m:ss; unknown before the second row."""
        done, begun = self.first or (0, now)
        made = self.seen.get("step", 0) - done
        if not made:
            return "?:??"
        minutes, seconds = divmod(round((now - begun) / made * (self.total - done - made)), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def seconds(value: float) -> str:
    """A duration in the unit that reads best."""
    return f"{value:.1f} s" if value >= 1 else f"{1000 * value:.0f} ms"
