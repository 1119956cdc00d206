"""Which classes are taken for which others, from a confusion matrix."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Confused:
    """Examples of one class that were taken for another."""

    label: str
    prediction: str
    count: int
    of: int  # examples of the label


@dataclass(frozen=True)
class Worst:
    """A class, and how often it is right."""

    name: str
    correct: int
    of: int


def most_confused(confusion: np.ndarray, names: Sequence[str], most: int) -> list[Confused]:
    """The pairs with the most examples, at most so many, the largest first; of equal ones, by label and prediction.

    Args:
        confusion: (K, K) counts: label, prediction.
    """
    of = confusion.sum(1)
    wrong = confusion - np.diag(confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = (divmod(int(at), len(names)) for at in order if wrong.flat[at] > 0)
    return [Confused(names[i], names[j], int(wrong[i, j]), int(of[i])) for i, j in pairs]


def worst_classes(correct: np.ndarray, of: np.ndarray, names: Sequence[str], most: int) -> list[Worst]:
    """The classes that are right the least, at most so many, the worst first; those without examples are left out.

    Args:
        correct, of: (K,) examples of each class that are right, and all of them.
    """
    there = np.flatnonzero(of)
    order: list[int] = there[np.argsort(correct[there] / of[there], kind="stable")][:most].tolist()
    return [Worst(names[i], int(correct[i]), int(of[i])) for i in order]
