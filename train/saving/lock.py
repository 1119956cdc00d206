"""A file that one process at a time holds, be the others on this host or on one that shares the disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def holding(path: Path) -> Iterator[str | None]:
    """Makes the file and holds it until this is left, when it is removed, or the process ends, killed or not. Gives
    None, or in words why nothing can be held there.

    It is a file, and open for writing, because NFS and Lustre lock nothing else across hosts.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it can't be made.
    """
    file, why = _take(path)
    try:
        yield why
    finally:
        if file is not None:
            with suppress(OSError):  # left behind it is held by nobody
                path.unlink()  # before it is let go: afterwards it may be another's
            os.close(file)


def _take(path: Path) -> tuple[int | None, str | None]:
    """The open file, or why it can't be held."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return None, "this system has no flock"
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            if isinstance(error, BlockingIOError):
                raise
            return None, error.strerror or str(error)  # ENOLCK, ENOTSUP, ENOSYS: Lustre mounted without flock
        if _is_there(file, path):
            return file, None
        os.close(file)  # who held it before removed it after it was opened here: that file is nobody's claim


def _is_there(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
