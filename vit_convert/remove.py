"""Removing what lies under a name: a folder with all that is in it, of a link the link alone."""

import shutil
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
