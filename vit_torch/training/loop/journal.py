"""What a run says: a line for the person watching, and the same as a JSON object a line in metrics.jsonl."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from vit_torch.training.loop.errors import Refused, writing
from vit_torch.training.loop.workdir import write_text

SHOWN = ("loss", "accuracy", "grad_norm", "learning_rate", "images_per_second", "test_loss", "test_accuracy")


class Journal:
    """Prints rows, and appends them to metrics.jsonl, if there is a workdir. A context manager."""

    def __init__(self, workdir: Path | None, total_steps: int, done: int = 0):
        """The rows up to step `done` stay; those of later steps, which come again, go.

        Raises:
            Unwritten: the disk is full, or writing is not permitted.
        """
        self.total_steps = total_steps
        self.path = Path(os.devnull) if workdir is None else workdir / "metrics.jsonl"
        with writing(self.path):
            if self.path.is_file():
                keep_rows(self.path, done)
            self.lines = self.path.open("a", encoding="utf-8", buffering=1)  # a line at a time

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with writing(self.path):  # half a line may still be there to be written
            self.lines.close()

    def write(self, row: Mapping[str, float | int]) -> None:
        """One row: its step, and what was measured there.

        Raises:
            Unwritten: the disk is full.
        """
        with writing(self.path):
            self.lines.write(json.dumps(row) + "\n")
        shown = "  ".join(f"{name} {row[name]:.4g}" for name in SHOWN if name in row)
        say(f"step {row['step']}/{self.total_steps}  {shown}")


def say(text: str) -> None:
    """A line for the person watching, at once."""
    print(text, flush=True)


def keep_rows(path: Path, step: int) -> None:
    """Leaves the rows up to this step. The last line may be half a row, where the process was killed in it.

    Raises:
        Refused: another line is no row.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    numbered = [(line, _step_of(line, path, at)) for at, line in enumerate(lines, 1) if line.endswith("\n")]
    write_text(path, "".join(line for line, of in numbered if of <= step))


def _step_of(line: str, path: Path, number: int) -> int:
    try:
        row = json.loads(line)
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            return row["step"]
    except ValueError:
        pass
    raise Refused(
        f"{path}, line {number}: expected a JSON object with a step, got {line[:60].rstrip()!r}; "
        "mend or remove the line, and the run goes on"
    )
