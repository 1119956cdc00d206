"""What a file of tensors is: names, shapes and dtypes at once, data on request."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from vit_convert.errors import CheckpointError, some
from vit_convert.rules import Shape

MOST_AXES = 64  # of an array of NumPy


@dataclass(frozen=True)
class Spec:
    """Shape and dtype of one tensor."""

    shape: Shape
    dtype: np.dtype


@dataclass(frozen=True)
class Tensors:
    """A file's tensors: names, shapes and dtypes are known, data is read on request."""

    path: Path
    specs: Mapping[str, Spec]
    read: Callable[[str], np.ndarray]  # the array may be a view of the file: copy it before it is changed
    metadata: Mapping[str, str] = field(default_factory=dict)
    said: tuple[str, ...] = ()  # what was chosen, stripped or left out on the way
    shards: tuple[Path, ...] = ()  # the files that hold the data, where `path` is only their index

    def __post_init__(self) -> None:
        """
        Raises:
            CheckpointError: shapes that no array has, as a damaged header says; without bytes they fit into any file.
        """
        odd = [f"{name} {spec.shape}" for name, spec in self.specs.items() if not _is_possible(spec)]
        if odd:
            raise CheckpointError(f"{self.path}: damaged, for no array has these shapes: {some(odd, ', ')}")

    @property
    def shapes(self) -> dict[str, Shape]:
        return {name: spec.shape for name, spec in self.specs.items()}

    @property
    def dtypes(self) -> dict[str, np.dtype]:
        return {name: spec.dtype for name, spec in self.specs.items()}

    def stream(self, names: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        return ((name, self.read(name)) for name in names)


def _is_possible(spec: Spec) -> bool:
    return len(spec.shape) <= MOST_AXES and prod(n for n in spec.shape if n) * spec.dtype.itemsize <= sys.maxsize


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CheckpointError: the file is no such thing.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value
