"""A file that one process at a time holds, be the others on this host or on one that shares the disk."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

LOCK = ".lock"  # in a run's folder while the run is going on, of whichever framework


@contextmanager
def claimed(workdir: Path, command: str, refusal: type[Exception]) -> Iterator[None]:
    """Makes the folder; within it no other process may run there. The claim ends with the process, killed or not.

    Where files can't be locked that is said, and the run goes on: the claim is against a second one started there by
    mistake, and clusters often mount Lustre without locks.

    Raises:
        refusal: the folder can't be made or written, or another process has it.
    """
    with ExitStack() as claim:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            why = claim.enter_context(holding(workdir / LOCK))
        except BlockingIOError:
            raise refusal(f"--workdir {workdir}: a run is going on there, in another process") from None
        except OSError as error:
            raise refusal(f"--workdir {workdir} can't be written: {error.strerror or error}") from None
        if why is not None:
            print(
                f"{command}: note: --workdir {workdir} can't be claimed ({why}): see to it that no other run uses it",
                file=sys.stderr,
            )
        yield


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
                if os.fstat(file).st_size == 0:  # one with something in it was there before
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
