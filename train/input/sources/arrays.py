"""Images that are in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.input.sources.base import Example, Shape


@dataclass(frozen=True)
class Arrays:
    """images (N, H, W, C) uint8 and labels (N,) as a source."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    fingerprint: str  # name, split and number: what they are

    @property
    def shape(self) -> Shape:
        """(H, W, C)."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def __len__(self) -> int:
        return len(self.labels)

    def examples(self, indices: Sequence[int]) -> list[Example]:
        return [Example(self.images[i], int(self.labels[i]), f"{self.fingerprint}: example {i}") for i in indices]
