"""What every source of examples has: random access, names for its classes, and a fingerprint."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Shape = tuple[int | None, int | None, int | None]


@dataclass(frozen=True)
class Example:
    """One image, encoded (JPEG, PNG, ...) or as pixels (H, W, C) uint8, and its label."""

    image: bytes | np.ndarray
    label: int
    name: str  # to say which one it is, if it can't be read


class Source(Protocol):
    """Examples by number, in any order, from any thread."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the labels 0, 1, ... stand for."""
        ...

    @property
    def shape(self) -> Shape:
        """(H, W, C) of all images; None where they may differ."""
        ...

    @property
    def fingerprint(self) -> str:
        """What the examples and their numbers are: a run goes on with the same only."""
        ...

    def __len__(self) -> int: ...

    def examples(self, indices: Sequence[int]) -> list[Example]:
        """The examples with these numbers.

        Raises:
            OSError: one of them can't be read.
        """
        ...
