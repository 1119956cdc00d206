"""A run moves half-way: fifty steps in one framework and fifty in the other are a hundred in either, in float64.

Parameters, moments, averages and step: really saved by each framework, really converted by the command, for every rule.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests.compare import apart, leaf_gaps, worst
from parity_tests.test_saved_steps import assert_same_bits, saver_in
from parity_tests.tolerances import FLOAT32, PARAMETERS
from parity_tests.trajectories import (
    CASES,
    MODEL,
    STEPS,
    batch_at,
    batch_to_spec,
    drawn,
    hyper_of,
    make_step,
    to_spec,
)
from train import workdir as folder
from train.config import TrainConfig
from train.devices.placement import make_placement
from train.run import begin
from train.saving.portable import open_portable
from train.step import Batch, State, Step
from vit_convert import __main__ as convert
from vit_convert.training_state import FOLDER, TrainingState, read_state, write_state
from vit_torch import ViT, training
from vit_torch.training.loop import saved

HALF = STEPS // 2


@dataclass(frozen=True)
class Whole:
    """A hundred steps in each framework, from the same parameters."""

    config: TrainConfig
    flax: Path  # a folder of a run, with the steps HALF and STEPS
    states: dict[int, State]  # the trainer's, at these
    torch: dict[int, TrainingState]  # the specification's
    step: Step
    update: Callable[..., Any]

    @property
    def hyper(self) -> training.Hyper:
        """The numbers of the run for the specification."""
        return hyper_of(self.config)

    def in_flax(self, state: State, stop: int) -> State:
        """The trainer's state after `stop` steps."""
        for at in range(int(state.step), stop):
            state, _ = self.update(state, Batch(*map(jnp.array, batch_at(self.config, at))), drawn(self.config)[at])
        return state

    def in_torch(self, model: ViT, state: training.State, stop: int) -> TrainingState:
        """The same by the specification."""
        for at in range(state.step, stop):
            batch = batch_to_spec(*batch_at(self.config, at))
            training.train_step(model, state, *batch, to_spec(drawn(self.config)[at]), self.hyper)
        return saved.to_saved(model, state, self.hyper)

    def begun_in_flax(self, workdir: Path) -> State:
        """What vit-train goes on from in this folder."""
        with saver_in(workdir / "steps") as saver:
            placement = make_placement(self.config, jax.devices()[:1])
            return begin(self.step, placement, None, saver, open_portable(workdir, self.step))


def write_run(workdir: Path, config: TrainConfig) -> Path:
    """The folder of a run that has made no step."""
    workdir.mkdir()
    folder.create(workdir, {"recipe": "digits", "train_config": config.to_dict()}, overwrite=False)
    return workdir


def save(workdir: Path, *states: State) -> Path:
    """As vit-train saves its steps."""
    with saver_in(workdir / "steps") as saver:
        for state in states:
            saver.save(int(state.step), state, ())
    return workdir


def converted(source: Path, dst: Path) -> TrainingState:
    """By the command."""
    assert convert.main([str(source), str(dst), "--to", "run-state"]) == 0
    return read_state(dst / FOLDER)


SLOW = [pytest.param(case, marks=pytest.mark.slow) for case in CASES if case != "adamw"]


@pytest.fixture(scope="module", params=["adamw", *SLOW])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    config = CASES[request.param]
    model, step, params = make_step(config)
    run = write_run(tmp_path_factory.mktemp("flax") / "run", config)
    state = step.init(params)
    where = make_placement(config, jax.devices()[:1]).state(state)
    update = jax.jit(step.update, out_shardings=(where, where.step))  # as vit-train's: compiled once
    found = Whole(config, run, {}, {}, step, update)
    state, torch_state = jax.device_put(state, where), training.init_state(model, found.hyper)
    for stop in (HALF, STEPS):
        state = found.states[stop] = found.in_flax(state, stop)
        found.torch[stop] = found.in_torch(model, torch_state, stop)
    save(run, *found.states.values())
    return found


def compare(ours: TrainingState, theirs: TrainingState) -> None:
    """The assertion of this file."""
    assert (ours.step, ours.rule) == (theirs.step, theirs.rule)
    a, b = ours.parts(), theirs.parts()
    assert a.keys() == b.keys()
    for part in a:
        found = leaf_gaps(a[part], b[part])
        assert max(found.values()) < PARAMETERS, f"{part} {worst(found)}"


def test_half_in_torch_and_half_in_flax_is_the_whole_of_either(whole: Whole, tmp_path: Path):
    run = write_run(tmp_path / "run", whole.config)
    write_state(run / FOLDER, whole.torch[HALF])
    state = whole.begun_in_flax(run)
    assert int(state.step) == HALF
    ours = converted(save(run, whole.in_flax(state, STEPS)), tmp_path / "end")
    compare(ours, whole.torch[STEPS])
    compare(ours, converted(whole.flax, tmp_path / "whole"))


def test_half_in_flax_and_half_in_torch_is_the_whole_of_either(whole: Whole, tmp_path: Path):
    converted(whole.flax / "steps" / str(HALF), tmp_path / "run")
    model = ViT(MODEL).double()
    state = saved.load(tmp_path / "run", model, whole.hyper)
    assert state.step == HALF
    ours = whole.in_torch(model, state, STEPS)
    compare(ours, whole.torch[STEPS])
    compare(ours, converted(whole.flax, tmp_path / "whole"))


def test_there_and_back_a_state_has_the_same_bits(whole: Whole, tmp_path: Path):
    there = converted(whole.flax / "steps" / str(HALF), tmp_path / "run")
    assert_same_bits(whole.begun_in_flax(tmp_path / "run"), whole.states[HALF])
    assert (tmp_path / "run" / "config.json").read_bytes() == (whole.flax / "config.json").read_bytes()
    model = ViT(MODEL).double()
    again = saved.to_saved(model, saved.load(tmp_path / "run", model, whole.hyper), whole.hyper)
    for part, arrays in there.parts().items():
        for name, x in arrays.items():
            assert again.parts()[part][name].tobytes() == x.tobytes(), f"{part}.{name}"


@pytest.mark.parametrize("whole", ["adamw"], indirect=True)
def test_the_later_of_a_saved_step_and_a_state_is_gone_on_from(whole: Whole, tmp_path: Path):
    run = write_run(tmp_path / "run", whole.config)
    changed = {name: x + 1 for name, x in whole.torch[HALF].params.items()}
    state = replace(whole.torch[HALF], params=changed)
    save(run, whole.states[HALF])
    for step, expected in ((HALF, 0), (HALF + 1, 1)):
        write_state(run / FOLDER, replace(state, step=step))
        found = whole.begun_in_flax(run)
        assert int(found.step) == max(step, HALF)
        moved = found.params["cls_token"] - whole.states[HALF].params["cls_token"]
        assert apart(moved, np.full_like(moved, expected)) < FLOAT32


SQUARE = "blocks.1.attn.proj.weight"
# What someone would get wrong in moving a state.
MISTAKES: dict[str, Callable[[TrainingState], TrainingState]] = {
    "step one short": lambda s: replace(s, step=s.step - 1),
    "a square matrix not transposed": lambda s: replace(s, params={**s.params, SQUARE: s.params[SQUARE].T}),
    "a square moment not transposed": lambda s: replace(
        s, moments={**s.moments, "mu": {**s.moments["mu"], SQUARE: s.moments["mu"][SQUARE].T}}
    ),
    "moments forgotten": lambda s: replace(
        s, moments={kind: {n: np.zeros_like(x) for n, x in of.items()} for kind, of in s.moments.items()}
    ),
    "mean and mean square swapped": lambda s: replace(
        s, moments={"mu": s.moments["nu"], "nu": {n: abs(x) for n, x in s.moments["mu"].items()}}
    ),
    "the average begins anew": lambda s: replace(s, ema=s.params),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("whole", ["adamw"], indirect=True)
def test_a_mistake_in_moving_a_state_is_seen(whole: Whole, tmp_path: Path, mistake: str):
    write_state(tmp_path / FOLDER, MISTAKES[mistake](whole.torch[HALF]))
    model = ViT(MODEL).double()
    state = saved.load(tmp_path, model, whole.hyper)
    ours = whole.in_torch(model, state, HALF + 5)
    right = ViT(MODEL).double()
    write_state(tmp_path / FOLDER, whole.torch[HALF])
    theirs = whole.in_torch(right, saved.load(tmp_path, right, whole.hyper), HALF + 5)
    with pytest.raises(AssertionError, match="differs by"):
        compare(ours, theirs)
