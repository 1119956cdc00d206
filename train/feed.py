"""How batches reach the compiled step: an item a step, made on the host, and what the device makes a batch of it."""

from collections.abc import Generator
from itertools import count
from typing import Any, Protocol

from jax import Array

from train.devices import hosts
from train.devices.placement import Placement, put
from train.input.data import Data
from train.input.order import batch_indices
from train.step import Batch


class Feed(Protocol):
    """The batches of a run, from any step on: they are a function of (seed, step) alone."""

    def items(self, start: int) -> Generator[Any, None, None]:
        """What each step is given, from the step after `start` updates on. To be closed."""
        ...

    def fetch(self, item: Any) -> Batch:
        """The batch of an item. Traced: it is a part of the compiled step."""
        ...


class Resident:
    """A whole split on every device: an item is the split, and which of it a step sees."""

    def __init__(self, data: Data, placement: Placement):
        split = data.whole_train
        self.images, self.labels = (put(x, placement.replicated) for x in (split.images, split.labels))
        self.config, self.placement = data.config, placement

    def items(self, start: int) -> Generator[tuple[Array, Array, Array], None, None]:
        c = self.config
        for step in count(start):
            chosen = batch_indices(c.seed, step, len(self.labels), c.batch_size, c.data.repeats)
            yield self.images, self.labels, put(chosen.astype("int32"), self.placement.batch)

    def fetch(self, item: tuple[Array, Array, Array]) -> Batch:
        images, labels, chosen = item
        return self.placement.share(Batch(images[chosen], labels[chosen]))


class Streamed:
    """Batches that are read ahead, by each host its rows: an item is the batch."""

    def __init__(self, data: Data, placement: Placement, total_steps: int):
        self.data, self.placement, self.total_steps = data, placement, total_steps

    def items(self, start: int) -> Generator[Batch, None, None]:
        size = self.data.config.batch_size
        rows = hosts.rows_of_this_host(self.placement.batch, size)
        with self.data.train_batches(start, self.total_steps, rows) as batches:
            for batch in batches:
                yield Batch(*hosts.global_batch(self.placement.batch, size, batch))

    def fetch(self, item: Batch) -> Batch:
        return item


def make_feed(data: Data, placement: Placement, total_steps: int) -> Feed:
    """The training batches of a run."""
    return Resident(data, placement) if data.resident else Streamed(data, placement, total_steps)
