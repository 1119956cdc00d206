"""RUN/state: a run's parameters, moments, averages and step, from which either framework goes on."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vit_convert.errors import CheckpointError, some
from vit_convert.training_state import MOMENTS, TrainingState, read_state, write_state
from vit_torch.pretrained import to_numpy, to_tensor
from vit_torch.training.hyper import Hyper
from vit_torch.training.state import State, init_state
from vit_torch.vit import ViT

FOLDER = "state"


def save(workdir: Path, model: ViT, state: State, hyper: Hyper) -> None:
    """Writes WORKDIR/state, in the place of an older one.

    Raises:
        CheckpointError: the disk is full, or writing is not permitted.
    """
    try:
        write_state(workdir / FOLDER, to_saved(model, state, hyper))
    except OSError as error:
        raise CheckpointError(f"{workdir / FOLDER} can't be written: {error.strerror or error}") from error


def load(workdir: Path, model: ViT, hyper: Hyper) -> State:
    """The state in WORKDIR/state; its parameters become the model's.

    Raises:
        CheckpointError: it can't be read, or is another model's, another rule's or of another dtype.
    """
    saved = read_state(workdir / FOLDER)
    try:
        return from_saved(model, saved, hyper)
    except CheckpointError as error:
        raise CheckpointError(f"{workdir / FOLDER}: {error}") from error


def to_saved(model: ViT, state: State, hyper: Hyper) -> TrainingState:
    """What both frameworks know of a run."""
    params = {name: p.detach() for name, p in model.named_parameters()}
    moments = {kind: _arrays(getattr(state, kind)) for kind in kept_moments(hyper)}
    ema = None if hyper.ema_decay is None else _arrays(state.ema)
    return TrainingState(state.step, hyper.rule, _arrays(params), moments, ema)


@torch.no_grad()
def from_saved(model: ViT, saved: TrainingState, hyper: Hyper) -> State:
    """The state, whose parameters become the model's.

    Raises:
        CheckpointError: it is another model's, another rule's or of another dtype; the model is as it was then.
    """
    state, params = init_state(model, hyper), {name: p.detach() for name, p in model.named_parameters()}
    if saved.rule != hyper.rule:
        raise CheckpointError(f"is a state of {saved.rule}, and optimizer.name is {hyper.rule}")
    found = {"params": saved.params, **saved.moments, **({} if saved.ema is None else {"ema": saved.ema})}
    wanted: dict[str, dict[str, Tensor]] = {kind: getattr(state, kind) for kind in kept_moments(hyper)}
    wanted |= {"params": params} | ({} if hyper.ema_decay is None else {"ema": state.ema})
    _check(found, wanted)
    for part, of in wanted.items():
        for name, tensor in of.items():
            tensor.copy_(to_tensor(found[part][name], tensor.dtype))
    state.step = saved.step
    if hyper.ema_decay is None:
        state.ema = {name: p.clone() for name, p in params.items()}
    return state


def kept_moments(hyper: Hyper) -> tuple[str, ...]:
    """Which moments a rule remembers: sgd without momentum none."""
    return () if hyper.rule == "sgd" and not hyper.beta1 else MOMENTS[hyper.rule]


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: to_numpy(x).copy() for name, x in tensors.items()}  # the next step changes the tensors in place


def _check(found: Mapping[str, Mapping[str, np.ndarray]], wanted: Mapping[str, Mapping[str, Tensor]]) -> None:
    there = {f"{part}.{name}": _described(x) for part, of in found.items() for name, x in of.items()}
    needed = {f"{part}.{name}": _described(x) for part, of in wanted.items() for name, x in of.items()}
    wrong = [
        f"{name} is {there.get(name, 'not there')}, and this run has {needed.get(name, 'none')}"
        for name in sorted(there.keys() | needed.keys())
        if there.get(name) != needed.get(name)
    ]
    if wrong:
        raise CheckpointError(f"is of another run: {some(wrong, '; ', 5)}")


def _described(x: np.ndarray | Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"
