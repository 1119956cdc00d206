"""How the command ends that can't do what it was asked."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Refused(Exception):
    """The user asked for something that can't be run; the message says what to change."""


class Diverged(RuntimeError):
    """The loss became infinite or no number; the message says at which step."""


class Unwritten(RuntimeError):
    """A file of the run can't be written; the message says which and why."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around what writes path.

    Raises:
        Unwritten: the disk is full, or writing is not permitted.
    """
    try:
        yield
    except OSError as error:
        raise Unwritten(f"{path} can't be written: {error.strerror or error}") from error
