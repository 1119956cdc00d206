"""The training state of a run as files that both frameworks read: RUN/state, hub names and torch layout throughout.

`state.safetensors` names its tensors params.NAME, mu.NAME, nu.NAME and ema.NAME; `state.json` says after how many
updates and of which rule. vit-train and the torch loop both go on from it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vit_convert.contiguous import contiguous
from vit_convert.errors import CheckpointError
from vit_convert.files.safetensors import open_safetensors, write_safetensors
from vit_convert.files.tensors import Spec, read_json
from vit_convert.layouts.native import hub_name
from vit_convert.place import directory
from vit_convert.roles import hidden
from vit_convert.rules import Shape, check

FORMAT, VERSION = "vit-parity-state", 1
FOLDER, TENSORS, DESCRIPTION = "state", "state.safetensors", "state.json"  # RUN/state and what lies in it
PARAMS, EMA = "params", "ema"
# What each rule remembers of a gradient: its mean and that of its square; sgd its velocity, or nothing; muon the
# velocity of matrices between hidden features, and of all else what adamw does.
MOMENTS = {"adamw": ("mu", "nu"), "lamb": ("mu", "nu"), "sgd": ("mu",), "muon": ("mu", "nu")}
OPTIONAL = ("sgd",)  # rules that may run without

Named = tuple[str, np.ndarray]


@dataclass(frozen=True)
class TrainingState:
    """What a run needs to go on, in either framework. Arrays that were read are views of the file."""

    step: int  # updates made
    rule: str  # one of MOMENTS
    params: Mapping[str, np.ndarray]  # hub name -> array in torch layout
    moments: Mapping[str, Mapping[str, np.ndarray]]  # mu, nu, as the rule has them; of what is trained
    ema: Mapping[str, np.ndarray] | None

    def parts(self) -> dict[str, Mapping[str, np.ndarray]]:
        """All arrays by hub name: params, the moments, ema where there is one."""
        return {PARAMS: self.params, **self.moments, **({} if self.ema is None else {EMA: self.ema})}


def write_state(folder: Path, state: TrainingState) -> None:
    """Writes beside the folder, then renames; one that is there is replaced.

    Raises:
        CheckpointError: it is no state that `read_state` would read, the disk is full, or writing is not permitted.
    """
    arrays = {f"{part}.{name}": contiguous(x) for part, of in state.parts().items() for name, x in of.items()}
    specs = {name: Spec(x.shape, x.dtype) for name, x in arrays.items()}
    check_parts(state.rule, specs, "the state to be written is not whole")
    stream_state(folder, state.step, state.rule, specs, arrays.items())


def stream_state(folder: Path, step: int, rule: str, specs: Mapping[str, Spec], tensors: Iterable[Named]) -> None:
    """The same from a stream of (params.NAME, C-contiguous array), in any order: one array at a time.

    Raises:
        CheckpointError: the tensors are not those of `specs`, the disk is full, or writing is not permitted.
    """
    said = {"format": FORMAT, "version": VERSION, "step": step, "rule": rule}
    with directory(folder.resolve()) as beside:  # a link stays, and leads to the new one
        write_safetensors(beside / TENSORS, specs, tensors)
        (beside / DESCRIPTION).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def read_state(folder: Path) -> TrainingState:
    """
    Raises:
        CheckpointError: no such folder, a file in it that is missing, truncated or of another format or version, or
            tensors that are no whole state: all missing, unexpected and misshapen ones in one message.
    """
    step, rule = _description(folder / DESCRIPTION)
    if not (folder / TENSORS).is_file():
        raise CheckpointError(f"{folder / TENSORS} is missing: a training state is that file and {DESCRIPTION}")
    tensors = open_safetensors(folder / TENSORS)
    check_parts(rule, tensors.specs, f"{folder / TENSORS} is no whole state of {rule}")
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name in tensors.specs:
        part, of = split_name(name)
        parts.setdefault(part, {})[of] = tensors.read(name)
    params, ema = parts.pop(PARAMS), parts.pop(EMA, None)
    return TrainingState(step, rule, params, parts, ema)


def split_name(name: str) -> tuple[str, str]:
    """(part, hub name): mu.norm.weight -> mu, norm.weight"""
    part, _, of = name.partition(".")
    return part, of


def check_parts(rule: str, found: Mapping[str, Spec], what: str, shapes: Mapping[str, Shape] | None = None) -> None:
    """Whether tensors are the whole state of a rule: each parameter, its average if one has one, and every moment that
    the rule has, of the same parameters.

    Args:
        found: by part and parameter, as in "mu.norm.weight".
        what: the message's beginning.
        shapes: the model's, in the names of `found`; without it those of `found`.

    Raises:
        CheckpointError: another rule, or tensors that are missing, unexpected or misshapen.
    """
    if rule not in MOMENTS:
        raise CheckpointError(f"{what}: no rule {rule!r} is known; a training state is of {', '.join(MOMENTS)}")
    there = {name: spec.shape for name, spec in found.items()}
    split = [(*split_name(name), shape) for name, shape in there.items()]
    shapes = {of: shape for part, of, shape in split if part == PARAMS} if shapes is None else shapes
    if not shapes:
        raise CheckpointError(f"{what}: it has no parameters ({PARAMS}.NAME)")
    trained = {of for part, of, _ in split if part in MOMENTS[rule] and of in shapes}
    if not trained and rule not in OPTIONAL:
        trained = set(shapes)
    expected = {f"{PARAMS}.{name}": shape for name, shape in shapes.items()}
    kept = [(kind, name) for kind in MOMENTS[rule] for name in shapes if name in trained]
    expected |= {f"{kind}.{name}": shapes[name] for kind, name in kept if remembers(rule, kind, hub_name(name))}
    if any(part == EMA for part, _, _ in split):
        expected |= {f"{EMA}.{name}": shape for name, shape in shapes.items()}
    check(expected, there, what)


def remembers(rule: str, kind: str, name: str) -> bool:
    """Whether a rule has this moment of the parameter with this hub name."""
    return kind in MOMENTS[rule] and not (rule == "muon" and kind == "nu" and hidden(name))


def _description(file: Path) -> tuple[int, str]:
    """(step, rule)"""
    if not file.is_file():
        raise CheckpointError(f"{file.parent}: no training state, for {file.name} is missing")
    said: dict[str, Any] = read_json(file)
    if said.get("format") != FORMAT or said.get("version") != VERSION:
        raise CheckpointError(
            f"{file}: expected format {FORMAT!r} version {VERSION}, got {said.get('format')!r} version "
            f"{said.get('version')!r}: was it written by a newer vit-parity?"
        )
    step, rule = said.get("step"), said.get("rule")
    if type(step) is not int or step < 0:
        raise CheckpointError(f"{file}: step must be the number of updates made, got {step!r}")
    if not isinstance(rule, str) or rule not in MOMENTS:
        raise CheckpointError(f"{file}: rule must be one of {', '.join(MOMENTS)}, got {rule!r}")
    return step, rule
