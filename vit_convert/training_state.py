"""The training state of a run as files that both frameworks read: RUN/state, hub names and torch layout throughout."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vit_convert.errors import CheckpointError
from vit_convert.files.safetensors import open_safetensors, write_safetensors
from vit_convert.files.tensors import Spec

FORMAT, VERSION = "vit-parity-state", 1


@dataclass(frozen=True)
class TrainingState:
    """What a run needs to go on, in either framework."""

    step: int  # updates made
    rule: str  # adamw, lamb, sgd
    params: Mapping[str, np.ndarray]  # hub name -> array in torch layout
    moments: Mapping[str, Mapping[str, np.ndarray]]  # adamw, lamb: mu, nu; sgd: mu, with momentum; of what is trained
    ema: Mapping[str, np.ndarray] | None


def write_state(folder: Path, state: TrainingState) -> None:
    """Writes beside the folder, then renames."""
    parts = {"params": state.params, **state.moments, **({"ema": state.ema} if state.ema is not None else {})}
    tensors = {f"{part}.{name}": np.ascontiguousarray(x) for part, of in parts.items() for name, x in of.items()}
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    beside.mkdir()
    specs = {name: Spec(x.shape, x.dtype) for name, x in tensors.items()}
    write_safetensors(beside / "state.safetensors", specs, tensors.items())
    described = {"format": FORMAT, "version": VERSION, "step": state.step, "rule": state.rule}
    (beside / "state.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(beside, folder)


def read_state(folder: Path) -> TrainingState:
    """
    Raises:
        CheckpointError: no such folder, or no state in it.
    """
    try:
        described = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: no training state: {error}") from error
    tensors = open_safetensors(folder / "state.safetensors")
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name in tensors.specs:
        part, _, of = name.partition(".")
        parts.setdefault(part, {})[of] = tensors.read(name)
    params, ema = parts.pop("params"), parts.pop("ema", None)
    return TrainingState(described["step"], described["rule"], params, parts, ema)
