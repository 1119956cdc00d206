"""The names of a head's classes."""

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError


def fitting(labels: tuple[str, ...] | None, config: ViTConfig, what: str) -> tuple[str, ...] | None:
    """The labels of a file, which mean nothing where the model has no head.

    Raises:
        CheckpointError: another number of labels than of classes.
    """
    return one_each(labels, config, what) if config.num_classes else None


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
