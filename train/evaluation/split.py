"""A whole split judged on all devices, every example counted once."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from train.augment import normalise
from train.devices import hosts
from train.devices.placement import Placement, put
from train.evaluation.counts import Counts, Evaluated, count, evaluated, zeros
from train.input.batches import EvalBatch
from train.input.data import Data, Split
from train.step import Params, Step

Batches = Callable[[], AbstractContextManager[Iterable[EvalBatch]]]  # all of a split, on the devices
Logits = Callable[[Params, Array], Array]  # parameters, images (B, H, W, C) as read -> (B, K)


def never(count: int) -> bool:
    """For an evaluation that is made to its end."""
    return False


@dataclass(frozen=True)
class Evaluate:
    """params -> Evaluated, over the split that `batches` gives."""

    add: Callable[[Counts, Params, EvalBatch], Counts]
    batches: Batches
    zero: Counts

    def compile(self, params: Params) -> None:
        """Compiles it, by one batch that isn't counted."""
        with self.batches() as batches:
            self.add(self.zero, params, next(iter(batches)))

    def __call__(self, params: Params) -> Evaluated:
        """Over all batches."""
        found = self.unless(never, params)
        assert found is not None
        return found

    def unless(self, stopped: Callable[[int], bool], params: Params) -> Evaluated | None:
        """The same, or None as soon as `stopped`, which is asked after each batch, of how many there were.

        Batches are given to the devices one ahead: more of them would only lie in their memory and wait.
        """
        totals = self.zero
        with self.batches() as batches:
            for count, batch in enumerate(batches, 1):
                before, totals = totals, self.add(totals, params, batch)
                jax.block_until_ready(before)
                if stopped(count):
                    return None
        return evaluated(totals)


def judge(logits: Logits, num_classes: int, dtype: DTypeLike, batches: Batches, placement: Placement) -> Evaluate:
    """The evaluation by these logits, whose loss is summed in dtype."""

    def add(totals: Counts, params: Params, batch: EvalBatch) -> Counts:
        found = count(logits(params, jnp.asarray(batch.images)), batch.labels, batch.counts)
        return jax.tree.map(lambda total, one: total + one.astype(total.dtype), totals, found)

    zero = jax.tree.map(lambda x: put(x, placement.replicated), zeros(num_classes, dtype))
    return Evaluate(jax.jit(add, out_shardings=placement.replicated), batches, zero)


def make_evaluate(step: Step, data: Data, placement: Placement) -> Evaluate:
    """The evaluation of a run, on all devices: the test split lies there where it is resident, or comes by batches."""

    def logits(params: Params, images: Array) -> Array:
        x = normalise(images, step.mean, step.std, step.param_dtype)
        return step.gathered(lambda params, x: step.merge(params)(x))(params, x)

    size = batch_size(len(data.test), step.config.batch_size, placement)
    read = streamed(data.test_batches, size, placement)
    batches = resident(data.whole_test, size, placement) if data.resident else read
    return judge(logits, step.config.model.num_classes, step.param_dtype, batches, placement)


def batch_size(count: int, wanted: int, placement: Placement) -> int:
    """Of an evaluation: as many as wanted, or all that there are, and some for each device."""
    return -(-min(count, wanted) // placement.parts) * placement.parts


def resident(split: Split, size: int, placement: Placement) -> Batches:
    """The split in batches that lie on the devices, each its share; what fills the last one doesn't count."""
    fill = -len(split.labels) % size
    images, labels, counts = (np.pad(x, ((0, fill), *((0, 0),) * (x.ndim - 1))) for x in split)
    starts = range(0, len(labels), size)
    whole = EvalBatch(images, labels, counts)
    batches = [jax.tree.map(lambda x, at=at: put(x[at : at + size], placement.batch), whole) for at in starts]

    @contextmanager
    def lying() -> Iterator[Iterable[EvalBatch]]:
        yield batches

    return lying


def streamed(
    read: Callable[[int, slice], AbstractContextManager[Iterable[EvalBatch]]], size: int, placement: Placement
) -> Batches:
    """A split in batches that are read anew each time, by each host its rows: read(size, rows)."""
    rows = hosts.rows_of_this_host(placement.batch, size)

    @contextmanager
    def reading() -> Iterator[Iterable[EvalBatch]]:
        with read(size, rows) as batches:
            yield (hosts.global_batch(placement.batch, size, batch) for batch in batches)

    return reading
