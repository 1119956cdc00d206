"""A public family of checkpoints, as the promises that every family keeps see it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.real.base import Answer
from parity_tests.tolerances import FORWARD


@dataclass(frozen=True)
class Saved:
    """A checkpoint of the family with random weights, saved as the family saves."""

    path: Path  # what a user would pass
    answer: Answer
    # Images of another size -> the output of the same weights, positions resized by the family's own code;
    # None where the family has no positions to resize or its class takes one size only.
    resized: Answer | None = None
    # The only images that there are answers for, of either size, where answers are golden.
    images: np.ndarray | None = None
    resized_images: np.ndarray | None = None


@dataclass(frozen=True)
class Family:
    """One row of the table of families."""

    name: str  # "DINOv2 with registers"
    real: str  # the class that it is verified against: "transformers Dinov2WithRegistersForImageClassification"
    layout: str  # as which its files are recognised, and in which they are written back
    save: Callable[[Path], Saved]  # into an empty directory
    # A directory that we wrote -> the real class with what lies there. None: the class is not at hand, the saved
    # file and its answers are golden, and what is written back has to be that file again.
    load: Callable[[Path], Answer] | None
    config: Mapping[str, Any]  # the ViTConfig fields that its files must be read as
    given: Mapping[str, Any] = field(default_factory=dict)  # what its files don't tell, and the user has to
    size: tuple[int, int] = (40, 40)  # of the images
    second_size: tuple[int, int] = (24, 56)
    tolerance: float = FORWARD
    # Names of the family's file that are left out when read, or made anew when written (Aside, Spare).
    beside: tuple[str, ...] = ()
    renamed: bool = False  # what is written back has other names or containers than the file: the hub's arrays tell
    to: str = ""  # what --to is given, if not `layout`
    batch: int = 2

    def images(self, size: tuple[int, int], channels: int = 3) -> np.ndarray:
        """Random float64 images (B, H, W, C)."""
        return np.random.default_rng(0).standard_normal((self.batch, *size, channels))
