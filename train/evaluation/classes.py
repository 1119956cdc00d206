"""Whether a checkpoint's classes are a dataset's, and in which order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.config import ConfigError
from vit_convert.streams import one_line


@dataclass(frozen=True)
class Classes:
    """The classes that a checkpoint's head answers for."""

    names: tuple[str, ...]
    order: np.ndarray  # (K,) int32: the head's number of the dataset's class 0, 1, ...
    said: tuple[str, ...] = ()  # what is to be told


def match_classes(checkpoint: str, labels: Sequence[str] | None, dataset: str, names: Sequence[str]) -> Classes:
    """Matched by name where both have the same names, in whatever order; else by number, and that is said.

    Args:
        labels: the names that the checkpoint has for its classes, as many as the dataset has.
    """
    numbers = np.arange(len(names), dtype=np.int32)
    if labels is None or tuple(labels) == tuple(names):
        return Classes(tuple(names), numbers)
    if set(labels) == set(names) and len(set(names)) == len(names) == len(labels):
        number = {name: at for at, name in enumerate(labels)}
        said = f"the classes of {dataset} have another order than those of {checkpoint}: they are matched by name"
        return Classes(tuple(labels), np.array([number[name] for name in names], np.int32), (said,))
    at = next(at for at, (ours, theirs) in enumerate(zip(labels, names, strict=True)) if ours != theirs)
    said = (
        f"the classes of {dataset} have other names than those of {checkpoint}, and are matched by number: "
        f"class {at} is {names[at]!r} there and {labels[at]!r} here. If that is not the same, the numbers mean nothing"
    )
    return Classes(tuple(labels), numbers, (said,))


def check_head(checkpoint: str, num_classes: int, dataset: str, names: Sequence[str]) -> None:
    """
    Raises:
        ConfigError: there is no head, or one for another number of classes.
    """
    if not num_classes:
        raise ConfigError(
            f"{checkpoint} has no head (num_classes 0), so nothing of it can be right or wrong: train one with "
            f"vit-train linear_probe --init {checkpoint} --data.name {dataset} --workdir DIR"
        )
    if num_classes != len(names):
        first = ", ".join(map(one_line, names[:3])) + (", ..." if len(names) > 3 else "")
        raise ConfigError(
            f"{checkpoint} has a head for {num_classes} classes, but {dataset} has {len(names)} ({first}): give the "
            f"dataset that it was trained on, or train a head for this one with vit-train finetune --init {checkpoint}"
        )
