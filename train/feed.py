"""How batches reach the compiled step: an item a step, made on the host, and what the device makes a batch of it."""

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any, Protocol

import jax
import numpy as np
from jax import Array

from train.data import Split
from train.devices.placement import Placement, put
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
    """A whole split on every device: an item is the split, and which of it a step sees."""

    def __init__(self, split: Split, *, seed: int, batch_size: int, placement: Placement):
        self.images, self.labels = (put(x, placement.replicated) for x in (split.images, split.labels))
        self.seed, self.batch_size, self.placement = seed, batch_size, placement

    def items(self, start: int) -> Iterator[tuple[Array, Array, Array]]:
        draw = partial(batch_indices, self.seed, num_examples=len(self.labels), batch_size=self.batch_size)
        order = jax.jit(draw, out_shardings=self.placement.batch)
        for step in count(start):
            yield self.images, self.labels, order(np.int32(step))

    def fetch(self, item: tuple[Array, Array, Array]) -> Batch:
        images, labels, chosen = item
        return self.placement.share(Batch(images[chosen], labels[chosen]))
