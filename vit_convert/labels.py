"""The names of a head's classes."""

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError


def fitting(
    labels: tuple[str, ...] | None, config: ViTConfig, what: str, strict: bool = False
) -> tuple[str, ...] | None:
    """The labels, if the model has a head; `strict`: labels without one are an error too.

    Raises:
        CheckpointError: another number of labels than of classes.
    """
    if not labels or (not config.num_classes and not strict):
        return None
    if len(labels) != config.num_classes:
        raise CheckpointError(f"{what}: {len(labels)} labels for a head of {config.num_classes} classes")
    return labels
