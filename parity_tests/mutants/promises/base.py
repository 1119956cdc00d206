"""What a promise is: numbers from a seed, each with its tolerance; and the test that public ports have in its place."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Measured(NamedTuple):
    """How far apart two things are, and how far they may be."""

    what: str
    found: float
    tolerance: float

    @property
    def kept(self) -> bool:
        return bool(self.found <= self.tolerance)  # a NaN is not

    @property
    def times(self) -> float:
        """How many tolerances it is."""
        return float(self.found / self.tolerance)


@dataclass(frozen=True)
class Promise:
    """What the two frameworks owe each other.

    Attributes:
        measure: from a seed of weights, inputs and draws, in the order in which they are computed; raises
            AssertionError for shapes or names that differ and values that aren't finite.
        conventional: how far apart the public way of testing a port finds them: outputs of float32 models at small
            initial values, as they are; of training, parameters after ten steps. It is given the folder that
            `files.write_originals` filled.
        fixed: the seed makes no difference: weights and inputs lie in a file.
    """

    measure: Callable[[int], Iterator[Measured]]
    conventional: Callable[[Path], float]
    fixed: bool = False


def apart(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> float:
    """The largest difference as it is, as `np.testing.assert_allclose(..., rtol=0, atol=5e-2)` sees it."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.abs(a - b).max()) if a.shape == b.shape else float("inf")
