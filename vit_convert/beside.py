"""Writing what is complete or not there: beside its place first, renamed at the end."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # what a write says, and no read does


class NotWritten(OSError):
    """A file can't be written. It is named as the user knows it, and not by the hidden name that it is written to."""

    def __str__(self) -> str:
        return f"{self.filename} can't be written: {self.strerror}"


@contextmanager
def writing(path: Path, hidden: Path | None = None) -> Iterator[None]:
    """Around what writes path, or what is to become path.

    Args:
        hidden: the name that it has until then.

    Raises:
        NotWritten: the disk is full, or `hidden` can't be made, written or renamed. Other errors, of what is read
            meanwhile, stay as they are.
    """
    try:
        yield
    except OSError as error:
        ours = error.errno in FULL if error.filename is None else str(error.filename) == str(hidden)
        if not ours:
            raise
        raise NotWritten(error.errno, error.strerror or str(error), str(path)) from error


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A hidden path of the same folder and suffix to write to. At the end it takes the place of `path`, and its mode;
    on failure it is removed, and what was there stays. A link stays, and what it leads to is written. The hidden name
    is drawn: threads share their process's number, and containers on one disk all have a process 1.

    Raises:
        OSError: a device, a FIFO or a socket has that name.
        NotWritten: the disk is full, or writing is not permitted.
    """
    place = place_of(path)
    temporary = place.with_name(f".{place.name}.{os.urandom(8).hex()}{path.suffix}")
    try:
        with writing(path, temporary):
            yield temporary
            if place.is_file():
                shutil.copymode(place, temporary)
            os.replace(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)


def place_of(path: Path) -> Path:
    """Where a file of that name is written: what a link leads to.

    Raises:
        OSError: a device, a FIFO or a socket is there, or a link that leads to itself. A rename would put a file in its
            place, of /dev/null too.
    """
    place = Path(os.path.realpath(path))
    if place.is_symlink():  # realpath gives up on a link that leads to itself
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if place.exists() and not (place.is_file() or place.is_dir()):  # a folder is refused by the rename
        raise OSError(errno.EINVAL, "is no regular file: give the name of a file", str(path))
    return place
