"""metrics.jsonl: a run's measurements, a JSON object a line, readable while the run goes on."""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from train.progress import Report


class Journal:
    """Writes rows to metrics.jsonl (None: nowhere, for another host does) and hands them to the report. A context
    manager."""

    def __init__(self, path: Path | None, report: Report):
        path = Path(os.devnull) if path is None else path
        self.lines, self.report = path.open("w", encoding="utf-8", buffering=1), report  # a line at a time

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.lines.close()

    def say(self, text: str) -> None:
        """A line for the person watching."""
        self.report.say(text)

    def write(self, row: dict[str, Any]) -> None:
        self.lines.write(json.dumps(row) + "\n")
        self.report.row(row)
