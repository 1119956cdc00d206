"""The names of a head's classes."""

from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError


def by_index(labels: Any) -> tuple[str, ...] | None:
    """The labels of a list, or of an object whose keys are 0 to n - 1 in any order; None: it is neither."""
    if isinstance(labels, dict) and set(labels) == {str(i) for i in range(len(labels))}:
        labels = [labels[str(i)] for i in range(len(labels))]
    return tuple(map(str, labels)) if isinstance(labels, list) else None


def fitting(labels: tuple[str, ...] | None, config: ViTConfig) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """The labels of a file, which mean nothing where the model has no head, and notes.

    A fine-tuned model's config may still hold those of its source: no library reads the weights by them.
    """
    if not labels or not config.num_classes:
        return None, ()
    if len(labels) != config.num_classes:
        return None, (f"left out {len(labels)} labels: the head has {config.num_classes} classes",)
    return labels, ()


def one_each(labels: tuple[str, ...] | None, config: ViTConfig, what: str) -> tuple[str, ...] | None:
    """The labels, if there are any, one for each class.

    Raises:
        CheckpointError: another number of labels than of classes, or labels of a model without a head.
    """
    if not labels:
        return None
    if len(labels) != config.num_classes:
        raise CheckpointError(f"{what}: {len(labels)} labels for a head of {config.num_classes} classes")
    return labels
