"""Batches of a run on the host, read ahead by Grain: the batch of a step is the example number `step` of a dataset of
batches, so reading starts anywhere, and its position is the step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import grain
import numpy as np

T = TypeVar("T")


class HostBatch(NamedTuple):
    """This host's rows of a batch. The buffers are new for every batch: JAX on a CPU may keep them as they are."""

    images: np.ndarray  # (rows, H, W, C) uint8
    labels: np.ndarray  # (rows,) int32


class EvalBatch(NamedTuple):
    """This host's rows of a batch to evaluate: the last one is filled up, and what fills it doesn't count."""

    images: np.ndarray  # (rows, H, W, C) uint8
    labels: np.ndarray  # (rows,) int32
    counts: np.ndarray  # (rows,) bool


@contextmanager
def ahead(make: Callable[[int], T], start: int, stop: int, prefetch: int) -> Iterator[Iterator[T]]:
    """make(start), ..., make(stop - 1), in order, each made while those before it are used; within the context."""
    options = grain.ReadOptions(num_threads=prefetch, prefetch_buffer_size=prefetch)
    dataset = grain.MapDataset.range(start, stop).map(make).to_iter_dataset(options)
    items = iter(dataset)
    try:
        yield items
    finally:
        items.close()
