"""The weights at the best held-out accuracy so far."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.devices import hosts
from train.step import Params
from train.workdir import write_text

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Evaluation:
    """How good weights were, and after how many steps."""

    step: int = 0
    accuracy: float = -1.0  # below any


class Best:
    """Has the weights written whenever an evaluation is better than all before; of equals the first stays.

    It is chosen on the held-out images, so its accuracy there flatters it: the run's result is the last evaluation.
    A record tells which evaluation the weights are of: a run that was killed may have left better ones than its last
    saved step knew of.

    Args:
        write: a complete checkpoint of these weights, in the place of one that is there.
        folder: of the weights.
        record: a file of its own, outside of it.
    """

    def __init__(self, write: Callable[[Params, Path], None], folder: Path, record: Path):
        self.write, self.folder, self.record = write, folder, record
        self.found = Evaluation()
        self.said: tuple[str, ...] = ()  # what was found missing

    def judged(self, step: int, accuracy: float, params: Params) -> None:
        """Takes in an evaluation. All hosts have to call it, with the same accuracy.

        Raises:
            SavingError: the weights or the record can't be written.
        """
        if accuracy > self.found.accuracy:
            self.write(params, self.folder)
            self.found = Evaluation(step, accuracy)
            if hosts.is_first():
                write_text(self.record, json.dumps({**asdict(self.found), "written": self._written()}) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """What a saved step keeps of it."""
        return asdict(self.found)

    def restore(self, kept: dict[str, Any]) -> None:
        """As it was at a saved step, or as the record says, if it is of the weights that are there. Where none are
        there any more, the next evaluation is the best. All hosts have to call it."""
        there = self._there(kept) if hosts.is_first() else kept
        bits = np.array([there["accuracy"]], np.float64).view(np.int32).tolist()
        step, *bits = hosts.gather_numbers(there["step"], *bits)[0]
        self.found = Evaluation(step, float(np.array(bits, np.int32).view(np.float64)[0]))

    def _there(self, kept: dict[str, Any]) -> dict[str, Any]:
        """Which evaluation the weights that are there are of; of none, it is one below any."""
        if kept["accuracy"] < 0 or (self.folder / WEIGHTS).is_file():
            return self._recorded() or kept
        self.said = (f"{self.folder} isn't there any more: the next evaluation's weights are taken as the best",)
        return asdict(Evaluation())

    def _recorded(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self.record.read_text(encoding="utf-8"))
            return found if found["written"] == self._written() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _written(self) -> int:
        """When the weights that are there were written: in nanoseconds, which no two writings share."""
        return (self.folder / WEIGHTS).stat().st_mtime_ns
