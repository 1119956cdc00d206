"""The folder of a run: what lies in it, and how it comes to be there without a half-written file."""

import json
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from train.config import ConfigError
from train.errors import FolderGone, saving
from train.replaced import OUTPUTS, put_back, set_aside
from train.saving.settings import check_same
from vit_convert import lock
from vit_convert.beside import beside
from vit_convert.place import repair
from vit_convert.remove import remove
from vit_convert.run_folder import FORMAT, VERSION


def check(workdir: Path, *, overwrite: bool) -> None:
    """Changes nothing. A run that was stopped may be gone on with: it has no checkpoint yet, which comes last.

    Raises:
        ConfigError: workdir is no folder, can't be written, or holds a run that may not be replaced.
    """
    try:
        workdir.exists()
    except OSError as error:  # a name that is too long
        raise ConfigError(f"--workdir {str(workdir)[:60]}... can't be used: {error.strerror}") from error
    if workdir.exists() and not workdir.is_dir():
        raise ConfigError(f"--workdir {workdir} is a file; a run needs a folder of its own")
    nearest = next(path for path in (workdir.absolute(), *workdir.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"--workdir {workdir} can't be made: {nearest} is no folder that can be written")
    held = [name for name in OUTPUTS if (workdir / name).exists()]
    if held and _run_in(workdir) is None:
        raise ConfigError(
            f"--workdir {workdir} holds {', '.join(held)}, but no config.json that a run wrote: "
            "nothing was removed; give another folder"
        )
    if held and not overwrite and not is_stopped(workdir):
        raise ConfigError(
            f"--workdir {workdir} already holds a run ({', '.join(held)}): "
            "give another folder, or --overwrite to replace that run"
        )


def is_stopped(workdir: Path) -> bool:
    """Whether the folder holds a run that has not come to its end."""
    return _run_in(workdir) is not None and not (workdir / "checkpoint").exists()


def last_step(workdir: Path) -> Path | None:
    """The last saved step of a run that was stopped there, whole or not."""
    steps = [path for path in (workdir / "steps").glob("*") if path.name.isdecimal()] if is_stopped(workdir) else []
    return max(steps, key=lambda path: int(path.name), default=None)


def checkpoint_of(path: str) -> str:
    """Of the folder of a run its checkpoint; everything else as it is.

    Raises:
        ConfigError: the run has none yet.
    """
    run = Path(path)
    if _run_in(run) is None:
        return path
    if not (run / "checkpoint").is_dir():
        there = [str(at) for at in sorted(run.glob("steps/*")) if at.name.isdecimal()]
        there += [str(run / "best")] * (run / "best").is_dir()
        left = f"it left {', '.join(there)}, each of them a checkpoint" if there else _no_step(run)
        raise ConfigError(f"{path} is the folder of a run that has not come to its end: {left}")
    return str(run / "checkpoint")


def _no_step(run: Path) -> str:
    """What to say of a run without a saved step, which may have the state of the torch loop or of vit-convert."""
    if not (run / "state").is_dir():
        return "and no step of it was saved yet"
    return (
        f"it left {run / 'state'}, which is no checkpoint, but what the run goes on from: "
        f"vit-train {run / 'config.json'} --workdir {run}"
    )


def claimed(workdir: Path) -> AbstractContextManager[None]:
    """Makes the folder; within it no other process may run there, this trainer's or the torch loop's.

    Raises:
        ConfigError: the folder can't be made, or another process has it.
    """
    return lock.claimed(workdir, "vit-train", ConfigError)


def create(workdir: Path, config: dict[str, Any], *, overwrite: bool) -> None:
    """Makes a claimed folder ready for a run: one that was stopped there stays, unless it is to be replaced. Otherwise
    the run that it held (nothing else) is set aside (`train.replaced`), and the new one's
    config.json is written.

    Checked once more: since `check` was asked, the run that had the folder may have come to its end, or a run that was
    to replace it been killed.

    Raises:
        ConfigError: the run there may not be replaced, or was stopped and had other settings; nothing was removed.
        SavingError: config.json can't be written, or what was there can't be moved or put back.
    """
    put_back(workdir)
    check(workdir, overwrite=overwrite)
    if is_stopped(workdir) and not overwrite:
        check_same(workdir, (_run_in(workdir) or {}).get("train_config", {}), config["train_config"])
        _tidy(workdir)
        return
    if _run_in(workdir) is not None:
        _tidy(workdir)  # or it would come back in the new run
        set_aside(workdir)
    write_text(workdir / "config.json", json.dumps({"format": FORMAT, "version": VERSION, **config}, indent=2) + "\n")


def check_there(workdir: Path) -> None:
    """Asked before anything is saved during a run: a new folder of that name could not be gone on with.

    Raises:
        FolderGone: the folder, or its config.json, is not there any more.
    """
    if not (workdir / "config.json").is_file():
        raise FolderGone(
            f"--workdir {workdir} has no config.json any more: the folder was moved or removed during the run; "
            "what was saved until then is where it is now"
        )


def finish(workdir: Path) -> None:
    """Once all weights are written nothing goes on from the saved steps: they are removed.

    Raises:
        SavingError: they can't be.
    """
    _remove(workdir / "steps")


def write_text(path: Path, text: str) -> None:
    """Writes beside path, then renames.

    Raises:
        SavingError: it can't be written; what was there stays.
    """
    with saving(path), beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _tidy(workdir: Path) -> None:
    """What a run that was killed had begun to write is removed; what it was about to replace is back in its place."""
    for name in OUTPUTS:
        with saving(workdir / name):
            repair(workdir / name)


def _remove(path: Path) -> None:
    with saving(path, "removed"):
        remove(path)


def run_id(workdir: Path) -> str:
    """What tells the run there from every other one."""
    return str((_run_in(workdir) or {}).get("run_id"))


def _run_in(workdir: Path) -> dict[str, Any] | None:
    """The config.json of the run there."""
    try:
        found = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None
