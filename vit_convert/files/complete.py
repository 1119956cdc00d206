"""What every writer keeps: exactly the tensors that were promised, in a file that is complete or not there."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vit_convert.beside import beside
from vit_convert.errors import CheckpointError, some
from vit_convert.files.tensors import Spec
from vit_convert.rules import check

# Bytes of one write. Linux brings all of a write's source into the page table before it copies any of it: a mapped
# tensor written whole takes nearly twice the time of one in pieces that fit the cache.
PIECE = 2**20


@contextmanager
def complete(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` to write into; it takes the name at the end, or vanishes on failure."""
    with beside(path) as temporary, open(temporary, "wb") as file:
        yield file


def promised(specs: Mapping[str, Spec], tensors: Iterable[tuple[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    """The stream, held to its specs: what was not promised is not passed on, and an error once all have come.

    Raises:
        CheckpointError: tensors that are missing, unexpected, twice there, or of another shape, dtype or memory
            order than their spec.
    """
    came: dict[str, Spec] = {}
    for name, array in tensors:
        if name in came:
            raise CheckpointError(f"{name} comes twice")
        came[name] = Spec(array.shape, array.dtype)
        if specs.get(name) != came[name]:
            continue  # listed with the others at the end
        if not array.flags.c_contiguous:
            raise CheckpointError(f"{name}: only C-contiguous arrays can be written, its strides are {array.strides}")
        yield name, array
    expected, found = ({n: spec.shape for n, spec in side.items()} for side in (specs, came))
    check(expected, found, "the tensors that came are not those that were to be written")
    odd = [f"{n}: expected {specs[n].dtype}, got {spec.dtype}" for n, spec in came.items() if spec != specs[n]]
    if odd:
        raise CheckpointError("writing: tensors of another dtype than their spec:\n    " + some(odd))


def pieces(data: memoryview) -> Iterator[memoryview]:
    """What to hand to `write`, one after the other."""
    return (data[at : at + PIECE] for at in range(0, len(data), PIECE))


def octets(array: np.ndarray) -> memoryview:
    """The bytes of a C-contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data
