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

EVALUATION = "evaluation.json"  # beside the weights


@dataclass(frozen=True)
class Evaluation:
    """How good weights were, and after how many steps."""

    step: int = 0
    accuracy: float = -1.0  # below any


class Best:
    """Has the weights written whenever an evaluation is better than all before; of equals the first stays.

    It is chosen on the held-out images, so its accuracy there flatters it: the run's result is the last evaluation.
    Which evaluation that was stands beside the weights: a run that was killed may have left better ones than its last
    saved step knew of.
    """

    def __init__(self, write: Callable[[Params, Path], None], folder: Path):
        self.write, self.folder = write, folder
        self.found = Evaluation()

    def judged(self, step: int, accuracy: float, params: Params) -> None:
        """Takes in an evaluation. All hosts have to call it, with the same accuracy."""
        if accuracy > self.found.accuracy:
            self.write(params, self.folder)
            self.found = Evaluation(step, accuracy)
            if hosts.is_first():
                write_text(self.folder / EVALUATION, json.dumps(asdict(self.found)) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """What a saved step keeps of it."""
        return asdict(self.found)

    def restore(self, kept: dict[str, Any]) -> None:
        """As it was at a saved step, or as the weights say that are there. All hosts have to call it."""
        try:
            there = json.loads((self.folder / EVALUATION).read_text(encoding="utf-8")) if hosts.is_first() else kept
        except (OSError, ValueError):
            there = kept
        bits = np.array([there["accuracy"]], np.float64).view(np.int32).tolist()
        step, *bits = hosts.gather_numbers(there["step"], *bits)[0]
        self.found = Evaluation(step, float(np.array(bits, np.int32).view(np.float64)[0]))
