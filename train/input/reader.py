"""Examples to pixels, in threads: the unreadable ones are said and replaced, up to a fraction."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from train.errors import DataError
from train.input.decode import CorruptImage
from train.input.load import Load
from train.input.sources import Example, Source
from vit_convert.streams import one_line


def cpus() -> int:
    """How many processors this process may use: a task of SLURM's or a container has a part of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Reader:
    """Reads the examples of one split. Safe in threads."""

    def __init__(self, source: Source, classes: int, max_corrupt: float, pool: ThreadPoolExecutor, threads: int):
        self.source, self.classes, self.pool, self.threads = source, classes, pool, threads
        self.max_corrupt = max_corrupt
        self.corrupt: dict[int, str] = {}  # number -> which one and why
        self._unsaid: list[str] = []
        self._lock = threading.Lock()

    def read(self, indices: Sequence[int], rows: Sequence[int], load: Load) -> tuple[np.ndarray, np.ndarray]:
        """The pixels (N, H, W, C) and labels (N,) int32 of these examples, in their order.

        An example that can't be decoded gives its place to the next one that can, by number: the same one every time.

        Raises:
            DataError: too many can't be decoded, or a label is none of the classes.
        """
        loaded = self._in_threads(indices, rows, lambda example, at, row: self._replaced(example, at, row, load))
        images, labels = zip(*loaded, strict=True)
        return np.stack(images), np.array(labels, np.int32)

    def read_whole(
        self, indices: Sequence[int], load: Load, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same, but one that can't be decoded is black, of this shape (H, W, C), and doesn't count: images, labels,
        counts (N,) bool."""
        loaded = self._in_threads(
            indices, range(len(indices)), lambda example, at, row: self._try(example, at, row, load)
        )
        images = np.stack([np.zeros(shape, np.uint8) if image is None else image for image, _ in loaded])
        labels, counts = [label for _, label in loaded], [image is not None for image, _ in loaded]
        return images, np.array(labels, np.int32), np.array(counts)

    def unsaid(self) -> list[str]:
        """What was found since the last call, to be said."""
        with self._lock:
            said, self._unsaid = self._unsaid, []
        return said

    def _in_threads(self, indices: Sequence[int], rows: Sequence[int], one: Callable[..., tuple]) -> list[tuple]:
        def some(part: slice) -> list[tuple]:
            examples = self._examples(indices[part])
            return [one(example, i, row) for example, i, row in zip(examples, indices[part], rows[part], strict=True)]

        size = max(1, -(-len(indices) // (2 * self.threads)))  # two parts a thread: images differ in size
        parts = self.pool.map(some, [slice(at, at + size) for at in range(0, len(indices), size)])
        return [item for part in parts for item in part]

    def _examples(self, indices: Sequence[int]) -> Sequence[Example]:
        """
        Raises:
            DataError: a file of the dataset can't be read.
        """
        try:
            return self.source.examples(indices)
        except OSError as error:
            raise DataError(str(error)) from error

    def _replaced(self, example: Example, index: int, row: int, load: Load) -> tuple[np.ndarray, int]:
        image, label = self._try(example, index, row, load)
        at = index
        while image is None:
            at = (at + 1) % len(self.source)
            if at == index:
                raise DataError(f"none of {len(self.source)} images can be decoded, as {one_line(self.corrupt[index])}")
            image, label = self._try(self._examples([at])[0], at, row, load)
        return image, label

    def _try(self, example: Example, index: int, row: int, load: Load) -> tuple[np.ndarray | None, int]:
        if not 0 <= example.label < self.classes:
            raise DataError(f"{example.name} has the label {example.label}; expected one of 0 to {self.classes - 1}")
        try:
            return load(example, row), example.label
        except CorruptImage as error:
            self._note(index, f"{example.name}: {error}")
            return None, example.label

    def _note(self, index: int, what: str) -> None:
        with self._lock:
            if index in self.corrupt:
                return
            self.corrupt[index] = what
            self._unsaid.append(one_line(f"left out, for it can't be decoded: {what}"))
            if len(self.corrupt) > self.max_corrupt * len(self.source):
                listed = "\n    ".join(map(one_line, list(self.corrupt.values())[:20]))
                raise DataError(
                    f"{len(self.corrupt)} of {len(self.source)} images can't be decoded, more than data.max_corrupt "
                    f"{self.max_corrupt:g} of them; repair or remove them, or allow more:\n    {listed}"
                )
