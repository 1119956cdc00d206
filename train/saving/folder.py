"""The folder WORKDIR/steps: which of its steps a run can go on from."""

import os
import shutil
from pathlib import Path

from vit_convert.sums import damage

ASIDE = "damaged"
UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a step until it is complete


def last_good(folder: Path) -> tuple[int | None, tuple[str, ...]]:
    """The latest step that is whole, or None, and what was found that is not.

    What was cut short is removed, and damaged steps later than that one are set aside, so that they can be saved anew.
    """
    said = [_remove(path) for path in sorted(folder.glob(f"*{UNFINISHED}*"))]
    for step in sorted((int(path.name) for path in folder.glob("*") if path.name.isdecimal()), reverse=True):
        wrong = damage(folder / str(step))
        if wrong is None:
            return step, tuple(said)
        said.append(f"{folder / str(step)} is damaged ({wrong}): set aside as {_set_aside(folder, str(step))}")
    return None, tuple(said)


def set_aside_from(folder: Path, first: int) -> None:
    """The steps from this one on are no longer among those that a run can go on from."""
    for path in folder.glob("*"):
        if path.name.isdecimal() and int(path.name) >= first:
            _set_aside(folder, path.name)


def _remove(path: Path) -> str:
    shutil.rmtree(path)
    return f"{path.with_name(path.name.partition(UNFINISHED)[0])} was cut short while it was saved: removed"


def _set_aside(folder: Path, name: str) -> Path:
    aside = folder / ASIDE / name
    aside.parent.mkdir(exist_ok=True)
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(folder / name, aside)
    return aside
