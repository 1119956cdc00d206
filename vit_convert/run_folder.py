"""The folder of a training run: its config.json, and its saved steps RUN/steps/N, of which the last good one counts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError, some
from vit_convert.files.tensors import read_json
from vit_convert.sums import damage

FORMAT, VERSION = "vit-parity-run", 1  # of config.json
CONFIG, STEPS, CHECKPOINT = "config.json", "steps", "checkpoint"


@dataclass(frozen=True)
class RunFolder:
    """A run's folder and what its config.json says of the run."""

    path: Path
    model: ViTConfig
    rule: str  # optimizer.name
    averages: bool  # whether there is an EMA


def open_run(folder: Path) -> RunFolder:
    """
    Raises:
        CheckpointError: no folder of a run, or a config.json of another version.
    """
    file = folder / CONFIG
    said = read_json(file) if file.is_file() else {}
    if said.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder} is no folder of a run: it needs a {CONFIG} that vit-train wrote (format {FORMAT!r}), or to be a "
            f"step in such a folder, RUN/{STEPS}/N"
        )
    if said.get("version") != VERSION:
        raise CheckpointError(
            f"{file} is of version {json.dumps(said.get('version'))}, and this one reads version {VERSION}"
        )
    try:
        config: Mapping[str, Any] = said["train_config"]
        model, rule = ViTConfig.from_dict(config["model"]), str(config["optimizer"]["name"])
        return RunFolder(folder, model, rule, config.get("ema_decay") is not None)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{file}: not as vit-train writes it ({error})") from None


def find_step(source: Path) -> tuple[Path, Path, tuple[str, ...]]:
    """(folder of the run, folder of the step, what was found damaged) of a run or of a step of one. Nothing is changed.

    Raises:
        CheckpointError: it isn't there, or no step of it is whole.
    """
    if not source.is_dir():
        raise CheckpointError(f"{source}: no such directory; a run is the --workdir of vit-train")
    if source.name.isdecimal() and source.parent.name == STEPS:
        if wrong := damage(source):
            raise CheckpointError(f"{source} is damaged ({wrong}): take another step, or the run for its last one")
        return source.parent.parent, source, ()
    said: list[str] = []
    steps = [path for path in (source / STEPS).glob("*") if path.name.isdecimal()]
    for step in sorted(steps, key=lambda path: int(path.name), reverse=True):
        wrong = damage(step)
        if wrong is None:
            return source, step, tuple(said)
        said.append(f"{step} is damaged ({wrong}): the step before it is taken")
    raise CheckpointError(f"{source} holds no saved step to go on from{_why(source, said)}")


def _why(run: Path, damaged: list[str]) -> str:
    if damaged:
        return f": {some([said.partition(':')[0] for said in damaged], '; ')}"
    if (run / CHECKPOINT).is_dir():
        return f": it came to its end, and left its weights in {run / CHECKPOINT}"
    if (run / "state").is_dir():
        return f", but {run / 'state'}: both frameworks go on from that as it is"
    return f" ({run / STEPS}/N)"
