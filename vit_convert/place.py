"""Making a checkpoint directory in one move: complete under its name, or not there at all."""

import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vit_convert.errors import CheckpointError
from vit_convert.layouts import LAYOUTS
from vit_convert.processors.transformers import FILE as PROCESSOR

# What the layouts write. A directory that holds anything else isn't replaced: it may hold what nobody can restore.
OURS = {name for layout in LAYOUTS.values() for name in (layout.config_file, layout.weights_file)} | {PROCESSOR}
PART, OLD = ".part", ".old"  # beside a directory's place: what will take it, and what had it until then


def check_place(dst: Path, overwrite: bool, ours: Collection[str] = OURS) -> None:
    """Raises CheckpointError if `dst` can't be made or must not be replaced: it may hold what is `ours` alone."""
    if dst.parent.is_file():
        raise CheckpointError(f"{dst}: its parent {dst.parent} is a file, not a directory")
    if not dst.parent.is_dir():
        raise CheckpointError(f"{dst}: its parent directory {dst.parent} doesn't exist")
    if not dst.exists():
        return
    if not overwrite:
        raise CheckpointError(f"{dst} exists; choose another name, or overwrite it (--overwrite, overwrite=True)")
    if not dst.is_dir():
        raise CheckpointError(f"{dst} is a file; a checkpoint is a directory, and only a directory is overwritten")
    others = sorted(path.name for path in dst.iterdir() if path.name not in ours)
    if others:
        raise CheckpointError(f"{dst} holds other files, so it is not overwritten: {', '.join(others[:10])}")


@contextmanager
def directory(dst: Path) -> Iterator[Path]:
    """A new directory beside `dst` to write into; it takes `dst`'s place at the end, or vanishes on failure.

    Raises:
        CheckpointError: the disk is full, or writing is not permitted. Any OSError inside is taken for that: who
            reads there says its own failures otherwise.
    """
    folder, old = (dst.with_name(f".{dst.name}.{os.urandom(8).hex()}{end}") for end in (PART, OLD))
    try:
        folder.mkdir()  # not mkdtemp, which makes it private
        yield folder
        _put(folder, dst, old)
    except OSError as error:  # names the temporary, or nothing
        raise CheckpointError(f"{dst}: can't be written: {error.strerror or error}") from error
    finally:
        try:
            _clear(folder, dst, old)
        except BaseException:  # told to end just now: tidying up is finished first
            _clear(folder, dst, old)
            raise


def _put(folder: Path, dst: Path, old: Path) -> None:
    try:
        if dst.exists():
            os.rename(dst, old)
        os.rename(folder, dst)
    except BaseException:
        if old.exists() and not dst.exists():
            os.rename(old, dst)
        raise


def _clear(folder: Path, dst: Path, old: Path) -> None:
    """What can't be removed stays: `dst` is as it should be, whatever lies beside it."""
    _remove(folder)
    if os.path.exists(dst):  # or `old` is all that there is; Path.exists raises where nothing may be looked at
        _remove(old)


def repair(dst: Path) -> None:
    """Tidies up after a process that was killed while it wrote `dst`, a file or a directory: what it was replacing is
    back in its place, what it had begun is removed. Other hidden names, an editor's or a backup's, are left alone. No
    other process may be writing there.

    Raises:
        OSError: what was being replaced can't be put back.
    """
    drawn = re.compile(rf"\.{re.escape(dst.name)}\.[0-9a-f]{{16}}({PART}|{OLD}|{re.escape(dst.suffix)})")
    left = [path for path in dst.parent.iterdir() if drawn.fullmatch(path.name)]
    replaced = [path for path in left if path.name.endswith(OLD)]
    if replaced and not dst.exists():  # the newest: an older one is there if it couldn't be removed, not as a whole
        os.rename(max(replaced, key=lambda path: path.stat().st_ctime_ns), dst)
    for path in left:
        _remove(path)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)  # no directory: nothing happens
    with suppress(OSError):
        path.unlink()
