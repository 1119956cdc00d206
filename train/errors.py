"""How a run ends that went wrong while it ran."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NonFiniteLoss(RuntimeError):
    """The loss became infinite or no number; the message says at which step and learning rate.

    Args:
        spoilt: the first step after which the weights gave no finite loss; None where their loss was a number, and the
            gradient was not.
    """

    def __init__(self, message: str, spoilt: int | None = None):
        super().__init__(message)
        self.spoilt = spoilt


class DataError(RuntimeError):
    """Images that a run can't go on without can't be read, or their labels fit no class; the message says which."""


class DeviceError(RuntimeError):
    """A device has too little memory for what a run computes; the message says what takes less."""


class SavingError(RuntimeError):
    """A step, weights or another file of a run can't be written; the message says which and why."""


class FolderGone(SavingError):
    """The run's folder isn't where it was any more: what would be written now would be another, of half a run."""


@contextmanager
def saving(path: Path, done: str = "written") -> Iterator[None]:
    """Around what writes path, or does with it what `done` says.

    Raises:
        SavingError: the disk is full, or writing is not permitted.
    """
    try:
        yield
    except OSError as error:
        raise SavingError(f"{path} can't be {done}: {error.strerror or error}") from error


class Stopped(Exception):
    """The run was told to end by a signal, and has saved its step."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number
