"""How batches reach the compiled step: an item a step, made on the host, and what the device makes a batch of it."""

from collections.abc import Iterator
from itertools import count
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from train.data import Split
from train.draws import batch_indices
from train.step import Batch


class Feed(Protocol):
    """The batches of a run, from any step on: they are a function of (seed, step) alone."""

    def items(self, start: int) -> Iterator[Any]:
        """What each step is given, from the step after `start` updates on, without end."""
        ...

    def fetch(self, item: Any) -> Batch:
        """The batch of an item. Traced: it is a part of the compiled step."""
        ...


class Resident:
    """A whole split on the device: an item is the split, and which of it a step sees."""

    def __init__(self, split: Split, *, seed: int, batch_size: int):
        self.images, self.labels = jnp.array(split.images), jnp.array(split.labels)
        self.seed, self.batch_size = seed, batch_size

    def items(self, start: int) -> Iterator[tuple[Array, Array, Array]]:
        order = jax.jit(lambda step: batch_indices(self.seed, step, len(self.labels), self.batch_size))
        for step in count(start):
            yield self.images, self.labels, order(jnp.int32(step))

    def fetch(self, item: tuple[Array, Array, Array]) -> Batch:
        images, labels, chosen = item
        return Batch(images[chosen], labels[chosen])
