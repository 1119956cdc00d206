"""The mapping of every tensor: from the file's name and axes to both models', with the sum of its bits."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import vit_flax
from vit_convert.axes import Shape
from vit_convert.checkpoint import Checkpoint
from vit_convert.contiguous import bits, contiguous
from vit_convert.errors import CheckpointError, some
from vit_convert.layouts import get_layout
from vit_convert.rules import Move, flip, right_shapes
from vit_convert.table import Named, from_layout, moves_of


@dataclass(frozen=True)
class Tensor:
    """An array under one of its names."""

    name: str
    shape: Shape
    dtype: str
    sha256: str  # of its bytes in C order; empty for Flax's, which are checked against the hub's


@dataclass(frozen=True)
class Mapped:
    """One row of the layout's table: arrays of the file, and what they become."""

    source: tuple[Tensor, ...]
    axes: str  # how axes are rearranged on the way to the hub, in einops' words; empty: the same array
    hub: tuple[Tensor, ...]  # the names and shapes of vit_torch
    flax_axes: str  # on the way from there to vit_flax
    flax: tuple[Tensor, ...]


def map_tensors(checkpoint: Checkpoint) -> tuple[Mapped, ...]:
    """Every tensor of the model, in the table's order. Reads the whole file.

    Raises:
        CheckpointError: values that are NaN or infinite: with them nothing can be compared.
    """
    hub = {name: _summed(name, array) for name, array in _finite(checkpoint)}
    to_flax = {move.left.names[0]: move for move in flip(moves_of(get_layout("flax"), checkpoint.config))}
    return tuple(_mapped(move, sources, hub, to_flax) for move, sources in checkpoint.moves())


def _mapped(move: Move, sources: tuple[Named, ...], hub: dict[str, Tensor], to_flax: dict[str, Move]) -> Mapped:
    right = tuple(hub[name] for name in move.right.names)
    flips = [to_flax[tensor.name] for tensor in right]
    return Mapped(
        source=tuple(_summed(name, array) for name, array in sources),
        axes=move.axes,
        hub=right,
        flax_axes=flips[0].axes,
        flax=tuple(_moved(flipped, tensor) for flipped, tensor in zip(flips, right, strict=True)),
    )


def _moved(move: Move, tensor: Tensor) -> Tensor:
    ((name, shape),) = right_shapes((move,), {tensor.name: tensor.shape}).items()
    return Tensor(name, shape, tensor.dtype, "")


def _finite(checkpoint: Checkpoint) -> Iterator[Named]:
    broken = []
    for name, array in checkpoint.tensors():
        if count := array.size - int(np.count_nonzero(np.isfinite(array))):
            broken.append(f"{name} ({count})")
        yield name, array
    if broken:
        raise CheckpointError(
            f"{checkpoint.path}: values that are NaN or infinite, so nothing can be compared: {some(broken, ', ')}"
        )


def _summed(name: str, array: np.ndarray) -> Tensor:
    data: Any = bits(contiguous(array))
    return Tensor(name, array.shape, array.dtype.name, hashlib.sha256(data).hexdigest())


def held_in_flax(model: vit_flax.ViT) -> Iterator[Named]:
    """(hub name, array in torch layout) of every parameter."""
    return from_layout(get_layout("flax"), model.config, model.numpy_tensors())


def unequal(checkpoint: Checkpoint, held: Iterable[Named]) -> tuple[str, ...]:
    """The hub names of tensors of a model that aren't the checkpoint's, to the bit (rounded to the model's dtype)."""
    there = dict(held)
    return tuple(name for name, array in checkpoint.tensors() if not _equal(there[name], array))


def _equal(held: np.ndarray, stored: np.ndarray) -> bool:
    return held.tobytes() == np.ascontiguousarray(stored, held.dtype).tobytes()
