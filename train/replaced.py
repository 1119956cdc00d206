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
KEPT, DROPPED = ".replaced", ".dropped"  # in the run's folder: the run that was there; what is left of dropped ones


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
    """Brings the run back that was set aside, in the place of one that hasn't begun; whether it did. Killed half way,
    it is gone on with by the next call.

    Raises:
        SavingError: it can't be moved, or the other one not be removed.
    """
    kept = workdir / KEPT
    if not kept.is_dir():
        return False
    with saving(workdir, "put back"):
        if all(os.path.lexists(folder / MOVED[-1]) for folder in (workdir, kept)):  # nothing has come back yet
            if has_begun(workdir):  # it was killed before it could say so
                drop(workdir)
                return False
            for name in MOVED:
                remove(workdir / name)
        _move(kept, workdir)
        kept.rmdir()
    return True


def has_begun(workdir: Path) -> bool:
    """Whether the new run has what it could go on from, or a row."""
    rows = workdir / "metrics.jsonl"
    steps = [path for path in (workdir / "steps").glob("*") if path.name.isdecimal()]
    there = any(os.path.lexists(workdir / name) for name in ("checkpoint", "state"))
    return bool(steps) or there or (rows.is_file() and rows.stat().st_size > 0)


def let_go(workdir: Path) -> bool:
    """The run that was set aside comes back no more; whether there was one. `sweep` removes it.

    Raises:
        SavingError: it can't be moved.
    """
    with saving(workdir / KEPT, "moved"):
        try:
            # at once: half of it must not come back
            os.rename(workdir / KEPT, workdir / f"{DROPPED}.{os.urandom(8).hex()}")
        except FileNotFoundError:
            return False
    return True


def sweep(workdir: Path) -> None:
    """Removes what was let go. What can't be removed now, as on NFS where another process has a file open, is left to
    the next call: no run ends for it."""
    for path in workdir.glob(f"{DROPPED}.{'[0-9a-f]' * 16}"):
        with suppress(OSError):
            remove(path)


def drop(workdir: Path) -> None:
    """Removes the run that was set aside, and what is left of others.

    Raises:
        SavingError: it can't be moved.
    """
    let_go(workdir)
    sweep(workdir)


def _move(source: Path, place: Path) -> None:
    """Links are moved as links."""
    for name in MOVED:
        with suppress(FileNotFoundError):
            os.rename(source / name, place / name)
