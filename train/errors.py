"""How a run ends that went wrong while it ran."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NonFiniteLoss(RuntimeError):
    """The loss became infinite or no number; the message says at which step and learning rate."""


class DataError(RuntimeError):
    """Images that a run can't go on without can't be read, or their labels fit no class; the message says which."""


class SavingError(RuntimeError):
    """A step, weights or another file of a run can't be written; the message says which and why."""


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Around what writes path.

    Raises:
        SavingError: the disk is full, or writing is not permitted.
    """
    try:
        yield
    except OSError as error:
        raise SavingError(f"{path} can't be written: {error.strerror or error}") from error


class Stopped(Exception):
    """The run was told to end by a signal, and has saved its step."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number
