"""Writing what is complete or not there: beside its place first, renamed at the end."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A hidden path of the same folder and suffix to write to. At the end it takes the place of `path`, and its mode;
    on failure it is removed, and what was there stays. A link stays, and what it leads to is written. The hidden name
    is drawn: threads share their process's number, and containers on one disk all have a process 1.

    Raises:
        OSError: a device, a FIFO or a socket has that name.
    """
    place = place_of(path)
    temporary = place.with_name(f".{place.name}.{os.urandom(8).hex()}{path.suffix}")
    try:
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
