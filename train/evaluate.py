"""A whole split judged, every example counted once: accuracy, top 5, loss, and what is taken for what."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from train.augment import normalise
from train.devices import hosts
from train.devices.placement import Placement, put
from train.input.batches import EvalBatch
from train.input.data import Data
from train.step import Params, Step

TOP = 5


class Counts(NamedTuple):
    """Sums over the examples so far; JAX arrays, or NumPy's once they are done."""

    seen: Any  # () int32
    correct: Any  # () int32
    correct_top5: Any  # () int32: the label is among the five classes with the most weight
    loss: Any  # () cross-entropy
    confusion: Any  # (K, K) int32: label, prediction


@dataclass(frozen=True)
class Evaluated:
    """What a split came to."""

    count: int
    correct: int
    correct_top5: int
    loss: float  # mean
    confusion: np.ndarray  # (K, K): label, prediction

    @property
    def accuracy(self) -> float:
        return self.correct / self.count

    @property
    def class_accuracy(self) -> np.ndarray:
        """(K,): of each class's examples; nan for a class without any."""
        of_class = self.confusion.sum(1)
        return np.where(of_class > 0, self.confusion.diagonal() / np.maximum(of_class, 1), np.nan)

    @property
    def row(self) -> dict[str, Any]:
        """Its line of metrics.jsonl."""
        return {
            "test_accuracy": self.accuracy,
            "test_top5": self.correct_top5 / self.count,
            "test_loss": self.loss,
            "test_correct": self.correct,
            "test_count": self.count,
        }


Batches = Callable[[], AbstractContextManager[Iterable[EvalBatch]]]  # all of a split, on the devices


@dataclass(frozen=True)
class Evaluate:
    """params -> Evaluated, over the split that `batches` gives."""

    add: Callable[[Counts, Params, EvalBatch], Counts]
    batches: Batches
    zero: Counts

    def __call__(self, params: Params) -> Evaluated:
        totals = self.zero
        with self.batches() as batches:
            for batch in batches:
                totals = self.add(totals, params, batch)
        totals = Counts(*(np.asarray(x.addressable_data(0)) for x in totals))
        count = int(totals.seen)
        sums = int(totals.correct), int(totals.correct_top5), float(totals.loss) / max(1, count)
        return Evaluated(count, *sums, totals.confusion)


def make_evaluate(step: Step, data: Data, placement: Placement) -> Evaluate:
    """The evaluation of a run, on all devices: the test split lies there where it is resident, or comes by batches."""
    num_classes, dtype = step.config.model.num_classes, step.param_dtype
    nothing = np.zeros((), np.int32)
    zeros = Counts(nothing, nothing, nothing, np.zeros((), dtype), np.zeros((num_classes, num_classes), np.int32))
    zero = jax.tree.map(lambda x: put(x, placement.replicated), zeros)

    def add(totals: Counts, params: Params, batch: EvalBatch) -> Counts:
        x = normalise(jnp.asarray(batch.images), step.mean, step.std, step.param_dtype)
        logits = step.gathered(lambda params, x: step.merge(params)(x))(params, x)
        found = count(logits, batch.labels, batch.counts)
        return Counts(*(total + one.astype(total.dtype) for total, one in zip(totals, found, strict=True)))

    size = -(-min(len(data.test), step.config.batch_size) // placement.parts) * placement.parts
    batches = resident(data, size, placement) if data.resident else streamed(data, size, placement)
    return Evaluate(jax.jit(add, out_shardings=placement.replicated), batches, zero)


def count(logits: Array, labels: Any, counts: Any) -> Counts:
    """(B, K) logits, (B,) labels and (B,) which of them count -> their sums."""
    num_classes = logits.shape[-1]
    log_probs = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    losses = -jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]
    predicted = logits.argmax(-1)
    _, best = jax.lax.top_k(logits, min(TOP, num_classes))
    return Counts(
        seen=counts.sum(),
        correct=((predicted == labels) & counts).sum(),
        correct_top5=((best == labels[:, None]).any(-1) & counts).sum(),
        loss=jnp.where(counts, losses, 0).sum(),
        confusion=jnp.zeros((num_classes, num_classes), jnp.int32).at[labels, predicted].add(counts.astype(jnp.int32)),
    )


def resident(data: Data, size: int, placement: Placement) -> Batches:
    """The split in batches that lie on the devices, each its share; what fills the last one doesn't count."""
    split = data.whole_test
    fill = -len(split.labels) % size
    images, labels, counts = (np.pad(x, ((0, fill), *((0, 0),) * (x.ndim - 1))) for x in split)
    starts = range(0, len(labels), size)
    whole = EvalBatch(images, labels, counts)
    batches = [jax.tree.map(lambda x, at=at: put(x[at : at + size], placement.batch), whole) for at in starts]

    @contextmanager
    def lying() -> Iterator[Iterable[EvalBatch]]:
        yield batches

    return lying


def streamed(data: Data, size: int, placement: Placement) -> Batches:
    """The split in batches that are read anew each time, by each host its rows."""
    rows = hosts.rows_of_this_host(placement.batch, size)

    @contextmanager
    def reading() -> Iterator[Iterable[EvalBatch]]:
        with data.test_batches(size, rows) as batches:
            yield (hosts.global_batch(placement.batch, size, batch) for batch in batches)

    return reading
