"""The folder of a run: what lies in it, and how it comes to be there without a half-written file."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from train.config import ConfigError

OUTPUTS = ("config.json", "metrics.jsonl", "curves.png", "attention.png", "checkpoint")
FORMAT = "vit-parity-run"


def check(workdir: Path, *, overwrite: bool) -> None:
    """Changes nothing.

    Raises:
        ConfigError: workdir is no folder, can't be written, or holds a run that may not be replaced.
    """
    if workdir.exists() and not workdir.is_dir():
        raise ConfigError(f"--workdir {workdir} is a file; a run needs a folder of its own")
    nearest = next(path for path in (workdir.absolute(), *workdir.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"--workdir {workdir} can't be made: {nearest} is no folder that can be written")
    held = [name for name in OUTPUTS if (workdir / name).exists()]
    if held and not overwrite:
        raise ConfigError(
            f"--workdir {workdir} already holds a run ({', '.join(held)}): "
            "give another folder, or --overwrite to replace that run"
        )
    if held and not _is_run(workdir / "config.json"):
        raise ConfigError(
            f"--workdir {workdir} holds {', '.join(held)}, but no config.json that a run wrote: "
            "nothing was removed; give another folder"
        )


def create(workdir: Path, config: dict[str, Any]) -> None:
    """Makes the folder, removes the run that it held (nothing else), and writes the new run's config.json.

    Raises:
        ConfigError: the folder can't be made.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--workdir {workdir} can't be made: {error.strerror}") from None
    for name in OUTPUTS[1:]:
        path = workdir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    write_text(workdir / "config.json", json.dumps({"format": FORMAT, "version": 1, **config}, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes beside path, then renames."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def _is_run(path: Path) -> bool:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("format") == FORMAT
