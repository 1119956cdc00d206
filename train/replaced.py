"""The run that --overwrite replaces: kept aside until the new one has begun, and back if that can't begin"""

import os
from contextlib import suppress
from pathlib import Path

from train.errors import saving
from vit_convert.remove import remove

OUTPUTS = (
    *("config.json", "metrics.jsonl", "tensorboard", "wandb", "curves.png", "confusion.png", "attention.png"),
    "classes.json",
    *("checkpoint", "best", "last", "steps", "state"),
)
# config.json is the last to move in either direction: which of the two are there says how far a killed process was.
MOVED = (*OUTPUTS[1:], OUTPUTS[0])
KEPT, DROPPED = ".replaced", ".dropped"  # in the run's folder: the run that was there, and one that nobody needs


def set_aside(workdir: Path) -> None:
    """Moves the run that the folder holds into it, out of the new one's way.

    Raises:
        SavingError: it can't be moved.
    """
    kept = workdir / KEPT
    with saving(kept):
        kept.mkdir()
        _move(workdir, kept)


def put_back(workdir: Path) -> bool:
    """Brings the run back that was set aside, in the place of the one that was to replace it; whether there was one.
    Killed half way, it is gone on with by the next call.

    Raises:
        SavingError: it can't be moved, or the other one not be removed.
    """
    kept = workdir / KEPT
    if not kept.is_dir():
        return False
    with saving(workdir, "put back"):
        if all((folder / MOVED[-1]).exists() for folder in (workdir, kept)):  # nothing has come back yet
            for name in MOVED:
                remove(workdir / name)
        _move(kept, workdir)
        kept.rmdir()
    return True


def drop(workdir: Path) -> None:
    """Removes the run that was set aside, if there is one. A removal that was killed is gone on with.

    Raises:
        SavingError: it can't be removed.
    """
    with saving(workdir / KEPT, "removed"):
        remove(workdir / DROPPED)
        with suppress(FileNotFoundError):
            os.rename(workdir / KEPT, workdir / DROPPED)  # at once: half of it must not come back
        remove(workdir / DROPPED)


def _move(source: Path, place: Path) -> None:
    """Links are moved as links."""
    for name in MOVED:
        with suppress(FileNotFoundError):
            os.rename(source / name, place / name)
