"""metrics.jsonl: a run's measurements, a JSON object a line, readable while the run goes on."""

import json
import os
from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any

from train.config import ConfigError
from train.devices import hosts
from train.errors import saving
from train.progress import Report
from train.sinks import Sink
from train.workdir import write_text


class Journal:
    """Writes rows to metrics.jsonl (None: nowhere, for another host does) and hands them to the report and the sinks. A
    context manager."""

    def __init__(
        self,
        path: Path | None,
        report: Report,
        resume_step: int = 0,
        sinks: Sequence[Sink] = (),
        written: Callable[[], None] = lambda: None,
        *,
        unevaluated: bool = False,
    ):
        """The rows up to resume_step stay; those of later steps, which come again, go, and so does that step's own
        evaluation if it comes again: a run may be killed after it has made up for one that it left off. `written` is
        called after every row."""
        self.path, self.report, self.sinks = Path(os.devnull) if path is None else path, report, list(sinks)
        self.written = written
        if self.path.is_file():
            keep_rows(self.path, resume_step, unevaluated)
        with saving(self.path):
            self.lines = self.path.open("a", encoding="utf-8", buffering=1)  # a line at a time

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for sink in list(self.sinks):
            self._ask(sink, lambda sink: sink.close(failed=error is not None))
        with saving(self.path):  # half a line may still be there to be written
            self.lines.close()

    def say(self, text: str) -> None:
        """A line for the person watching."""
        self.report.say(text)

    def say_own(self, text: str) -> None:
        """A line of what this process alone may have met: it is seen whichever process that is."""
        hosts.say_own(text, self.report.say)

    def write(self, row: dict[str, Any]) -> None:
        """
        Raises:
            SavingError: the disk is full.
        """
        finite = {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in row.items()}  # JSON has no NaN
        with saving(self.path):
            self.lines.write(json.dumps(finite) + "\n")
        self.written()
        self.report.row(row)
        for sink in list(self.sinks):
            self._ask(sink, lambda sink: sink.row(row))

    def _ask(self, sink: Sink, what: Callable[[Sink], None]) -> None:
        """A sink that fails ends no run of days: it is said, and left out from then on. metrics.jsonl has every row."""
        try:
            what(sink)
        except Exception as error:  # a full disk, a network that is gone, a service that was killed: each its own
            self.sinks.remove(sink)
            said = f"{type(sink).__name__} takes no more rows: {error or type(error).__name__}"
            self.say(f"{said}; the run goes on, and metrics.jsonl has them all")


def keep_rows(path: Path, step: int, unevaluated: bool) -> None:
    """Leaves the rows up to this step. The last line may be half a row, where the process was killed in it.

    Raises:
        ConfigError: another line is no row.
    """

    def stays(row: dict[str, Any]) -> bool:
        return row["step"] <= step and not (unevaluated and row["step"] == step and "test_count" in row)

    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    rows = [(line, _row(line, path, at)) for at, line in enumerate(lines, 1) if line.endswith("\n")]
    write_text(path, "".join(line for line, row in rows if stays(row)))


def _row(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            return row
    except ValueError:
        pass
    raise ConfigError(
        f"{path}, line {number}: expected a JSON object with a step, got {line[:60].rstrip()!r}; "
        "mend or remove the line, and the run goes on"
    )
