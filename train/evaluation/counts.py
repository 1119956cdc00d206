"""Sums over the examples of a split, and what they come to: top 1, top 5, loss, each class, what is taken for what."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

TOP = 5
CONFUSABLE = 2000  # with more classes there is no confusion matrix: ImageNet-21k's would take 2 GB


class Counts(NamedTuple):
    """Sums over the examples so far; JAX arrays, or NumPy's once they are done."""

    seen: Any  # () int32
    correct: Any  # () int32
    correct_top5: Any  # () int32: the label is among the five classes with the most weight
    loss: Any  # () cross-entropy
    class_seen: Any  # (K,) int32
    class_correct: Any  # (K,) int32
    confusion: Any  # (K, K) int32: label, prediction; None above CONFUSABLE


def zeros(num_classes: int, dtype: DTypeLike) -> Counts:
    """Of no examples, in NumPy; the loss in dtype."""
    none, of_class = np.zeros((), np.int32), np.zeros(num_classes, np.int32)
    confusion = np.zeros((num_classes, num_classes), np.int32) if num_classes <= CONFUSABLE else None
    return Counts(none, none, none, np.zeros((), dtype), of_class, of_class, confusion)


def count(logits: Array, labels: Any, counts: Any) -> Counts:
    """(B, K) logits, (B,) labels and (B,) which of them count -> their sums.

    Of classes with the same weight the first is the prediction, and the first ones are the top 5.
    """
    num_classes, one = logits.shape[-1], counts.astype(jnp.int32)
    log_probs = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    losses = -jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]
    predicted = logits.argmax(-1)
    right = (predicted == labels) & counts
    _, best = jax.lax.top_k(logits, min(TOP, num_classes))
    of_class = jnp.zeros(num_classes, jnp.int32)
    confusion = jnp.zeros((num_classes, num_classes), jnp.int32) if num_classes <= CONFUSABLE else None
    return Counts(
        seen=counts.sum(),
        correct=right.sum(),
        correct_top5=((best == labels[:, None]).any(-1) & counts).sum(),
        loss=jnp.where(counts, losses, 0).sum(),
        class_seen=of_class.at[labels].add(one),
        class_correct=of_class.at[labels].add(right.astype(jnp.int32)),
        confusion=None if confusion is None else confusion.at[labels, predicted].add(one),
    )


@dataclass(frozen=True)
class Evaluated:
    """What a split came to."""

    count: int
    correct: int
    correct_top5: int
    loss: float  # mean
    class_count: np.ndarray  # (K,): examples of each class
    class_correct: np.ndarray  # (K,)
    confusion: np.ndarray | None  # (K, K): label, prediction; None above CONFUSABLE classes

    @property
    def accuracy(self) -> float:
        return self.correct / self.count if self.count else float("nan")

    @property
    def top5(self) -> float:
        return self.correct_top5 / self.count if self.count else float("nan")

    @property
    def class_accuracy(self) -> np.ndarray:
        """(K,): of each class's examples; nan for a class without any."""
        return np.where(self.class_count > 0, self.class_correct / np.maximum(self.class_count, 1), np.nan)

    def by_class(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Each class with its examples and how many of them are right, for JSON."""
        of_class = zip(names, self.class_correct.tolist(), self.class_count.tolist(), strict=True)
        return [{"name": name, "correct": correct, "count": count} for name, correct, count in of_class]

    @property
    def row(self) -> dict[str, Any]:
        """Its line of metrics.jsonl."""
        return {
            "test_accuracy": self.accuracy,
            "test_top5": self.top5,
            "test_loss": self.loss,
            "test_correct": self.correct,
            "test_count": self.count,
        }


def evaluated(totals: Counts) -> Evaluated:
    """What sums on the devices, the same on each, came to."""
    t = jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), totals)
    seen = int(t.seen)
    loss = float(t.loss) / seen if seen else float("nan")
    return Evaluated(seen, int(t.correct), int(t.correct_top5), loss, t.class_seen, t.class_correct, t.confusion)
