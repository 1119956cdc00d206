"""The weights at the best held-out accuracy so far."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from train.step import Params


@dataclass(frozen=True)
class Evaluation:
    """How good weights were, and after how many steps."""

    step: int = 0
    accuracy: float = -1.0  # below any


class Best:
    """Has the weights written whenever an evaluation is better than all before; of equals the first stays.

    It is chosen on the held-out images, so its accuracy there flatters it: the run's result is the last evaluation.
    """

    def __init__(self, write: Callable[[Params], None]):
        self.write = write
        self.found = Evaluation()

    def judged(self, step: int, accuracy: float, params: Params) -> None:
        """Takes in an evaluation. All hosts have to call it, with the same accuracy."""
        if accuracy > self.found.accuracy:
            self.write(params)
            self.found = Evaluation(step, accuracy)

    def to_dict(self) -> dict[str, Any]:
        """What a saved step keeps of it."""
        return asdict(self.found)

    def restore(self, kept: dict[str, Any]) -> None:
        """As it was at a saved step. Weights that were better still, later on, will be found again."""
        self.found = Evaluation(**kept)
