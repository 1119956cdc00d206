"""Removing what lies under a name: a folder with all that is in it, of a link the link alone."""

import shutil
from collections.abc import Iterable
from pathlib import Path


def remove(path: Path) -> None:
    """Nothing need be there. Where a link leads is left as it is: it may be used by others.

    Raises:
        OSError: it can't be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def lies_in(path: Path, folder: Path, names: Iterable[str]) -> bool:
    """Whether a path, or what it leads to, is one of these names of a folder or lies under it. What a link of such a
    name leads to does not: it is not removed with the link."""
    real, place = path.resolve(), folder.resolve()
    return any(place / name in (real, *real.parents) for name in names)
