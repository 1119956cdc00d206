"""Making a checkpoint directory in one move: complete under its name, or not there at all."""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from vit_convert.errors import CheckpointError
from vit_convert.layouts import LAYOUTS
from vit_convert.processors.transformers import FILE as PROCESSOR

# What the layouts write. A directory that holds anything else isn't replaced: it may hold what nobody can restore.
OURS = {name for layout in LAYOUTS.values() for name in (layout.config_file, layout.weights_file)} | {PROCESSOR}


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
    folder = dst.with_name(f".{dst.name}.{os.urandom(8).hex()}.part")
    try:
        folder.mkdir()  # not mkdtemp, which makes it private
        yield folder
        _put(folder, dst)
    except OSError as error:  # names the temporary, or nothing
        raise CheckpointError(f"{dst}: can't be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put(folder: Path, dst: Path) -> None:
    if not dst.exists():
        os.rename(folder, dst)
        return
    old = dst.with_name(f".{dst.name}.{os.urandom(8).hex()}.old")
    os.rename(dst, old)
    try:
        os.rename(folder, dst)
    except BaseException:
        os.rename(old, dst)
        raise
    shutil.rmtree(old)
