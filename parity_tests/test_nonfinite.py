"""A loss that is infinite or no number ends a run, or its update is left out: as if that batch had not been."""

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests.small_step import CONFIG, small_batch, small_state, small_step
from train.errors import NonFiniteLoss
from train.evaluation.counts import Evaluated
from train.loop import check_finite
from train.window import MOST_SKIPPED, Window


@pytest.mark.slow
def test_an_update_that_is_left_out_changes_nothing_but_the_count():
    step = small_step(replace(CONFIG, on_nonfinite="skip"))
    update, begun = jax.jit(step.update), small_state(step)
    batch, draws = small_batch(step)
    state, metrics = update(begun, batch, draws._replace(lam=jnp.float64(np.nan), use_cutmix=jnp.array(False)))
    assert metrics["skipped"] == 1
    assert not np.isfinite(metrics["loss"])
    assert state.step == 1
    for ours, before in zip(jax.tree.leaves(state[1:]), jax.tree.leaves(begun[1:]), strict=True):
        np.testing.assert_array_equal(ours, before)
    state, metrics = update(state, batch, draws)
    assert metrics["skipped"] == 0
    assert any((np.asarray(state.params[path]) != np.asarray(x)).any() for path, x in begun.params.items())


def row(loss: float, **more: float) -> dict:
    return {"loss": loss, "accuracy": 0.5, "grad_norm": abs(loss), "learning_rate": 0.1, **more}


def measured(*rows: dict) -> Window:
    window = Window(batch_size=4)
    for each in rows:
        window.add({name: jnp.asarray(value) for name, value in each.items()})
    return window


def test_without_skipping_the_first_such_step_is_named():
    with pytest.raises(NonFiniteLoss, match=r"the loss is nan at step 9, with learning rate 0.1"):
        measured(row(1.0), row(math.nan), row(math.nan)).close(10)


def test_a_gradient_that_is_not_finite_is_named_though_the_loss_is_a_number():
    with pytest.raises(NonFiniteLoss, match=r"the loss is 1.0 at step 2, with learning rate 0.1 and gradient norm inf"):
        measured(row(1.0), row(1.0) | {"grad_norm": math.inf}).close(2)


@pytest.mark.parametrize(
    ("rows", "before", "spoilt"),
    [
        ([row(1.0), row(math.nan)], 0, 1),  # of the weights after the first
        ([row(1.0), row(1.0) | {"grad_norm": math.inf}], 0, None),  # these weights are good, those after it lost
        ([row(1.0, skipped=0.0), *[row(math.nan, skipped=1.0)] * MOST_SKIPPED], 0, 1),  # the updates since changed none
        # the loss is a number, but no gradient is: nothing comes of those weights
        ([row(1.0, skipped=0.0), *[row(1.0, skipped=1.0) | {"grad_norm": math.nan}] * MOST_SKIPPED], 0, 1),
        ([row(math.nan, skipped=1.0)] * 2, MOST_SKIPPED - 1, 1 - MOST_SKIPPED),  # before this line
    ],
)
def test_the_step_that_spoilt_the_weights_is_told(rows: list[dict], before: int, spoilt: int | None):
    window = measured(*rows)
    window.skipped_in_a_row = before
    with pytest.raises(NonFiniteLoss) as error:
        window.fetch(len(rows))
    assert error.value.spoilt == spoilt


def test_weights_that_the_last_update_spoilt_are_no_result():
    one = np.ones(1, int)
    found = Evaluated(1, 0, 0, math.nan, one, one, None)
    said = "the held-out loss is nan after step 7, with learning rate 0.1: lower"
    with pytest.raises(NonFiniteLoss, match=said) as error:
        check_finite(found, 7, 0.1, made=5)
    assert error.value.spoilt == 5
    check_finite(replace(found, loss=2.0), 7, 0.1, made=5)


def test_means_are_of_the_updates_that_were_made():
    found = measured(row(1.0, skipped=0.0), row(math.nan, skipped=1.0), row(3.0, skipped=0.0)).close(3)
    assert found["loss"] == 2
    assert found["skipped"] == 1


def test_what_is_left_out_is_named_by_step_and_rate():
    bad = row(math.nan, skipped=1.0) | {"learning_rate": 0.02}
    window = measured(row(1.0, skipped=0.0), bad, row(1.0, skipped=0.0), bad | {"learning_rate": 0.01})
    window.close(44)
    said = "left out the update of step 42 (and 1 more up to step 44): its loss is nan, with learning rate 0.02 and"
    assert window.said == f"{said} gradient norm nan"
    window.add({name: jnp.asarray(value) for name, value in row(1.0, skipped=0.0).items()})
    window.close(45)
    assert not window.said


def test_a_window_of_nothing_but_skipped_updates_has_no_loss():
    found = measured(row(math.nan, skipped=1.0)).close(1)
    assert "loss" not in found
    assert found["skipped"] == 1


def test_too_many_in_a_row_end_the_run_and_others_in_between_dont():
    one = row(math.nan, skipped=1.0)
    window = measured(*[one] * (MOST_SKIPPED - 1), row(1.0, skipped=0.0), *[one] * (MOST_SKIPPED - 1))
    assert window.close(2 * MOST_SKIPPED)["skipped"] == 2 * MOST_SKIPPED - 2
    window.add({name: jnp.asarray(value) for name, value in one.items()})
    with pytest.raises(NonFiniteLoss, match=f"{MOST_SKIPPED} updates in a row were left out"):
        window.close(2 * MOST_SKIPPED)


@pytest.mark.parametrize(
    ("losses", "suspect"), [([1.0], None), ([1.0, math.nan, math.nan], 1), ([math.nan, 1.0], None)]
)
def test_weights_whose_losses_since_were_not_finite_are_suspect(losses: list[float], suspect: int | None):
    window = measured(*[row(loss, skipped=float(not math.isfinite(loss))) for loss in losses])
    window.close(len(losses))
    assert window.suspect(len(losses)) == suspect


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "ends"),
    [
        pytest.param(  # the rate grows until gradients aren't finite, while the loss is
            "--steps 400 --optimizer.name sgd --schedule.learning-rate 10 --schedule.warmup-epochs 8 "
            "--optimizer.weight-decay 1 --checkpoint.steps 20",
            "100 updates in a row were left out",
            id="gradients",
        ),
        pytest.param(
            "--steps 60 --schedule.learning-rate 1e30 --schedule.warmup-epochs 0.5 --checkpoint.steps 2",
            "held-out loss is nan after step 60",
            id="held-out loss",
        ),
    ],
)
def test_updates_that_are_left_out_take_no_good_steps_place(given: str, ends: str, tmp_path: Path):
    """What is named as the last good step gives a finite loss, and is from before the updates that led nowhere; without
    one, that is said."""
    more = "--optimizer.clip-norm None --on-nonfinite skip --log.steps 5 --eval-epochs 50"
    done = command("digits", "--workdir", tmp_path, *given.split(), *more.split())
    assert done.returncode == 1, done.stderr
    assert ends in done.stderr
    steps = sorted(int(path.name) for path in (tmp_path / "steps").glob("*") if path.name.isdecimal())
    named = re.search(r"the last good step is saved in \S+/steps/(\d+)", done.stderr)
    if named is None:
        assert steps == []
        assert "no step before it is left" in done.stderr
        return
    assert int(named[1]) == steps[-1]
    ended = re.search(r"at step (\d+), .* and 100 updates", done.stderr)
    assert ended is None or steps[-1] < int(ended[1]) - 100
    judged = command("evaluate", tmp_path / "steps" / named[1], "--data", "digits", "--json")
    assert judged.returncode == 0, judged.stderr
    assert math.isfinite(json.loads(judged.stdout)["loss"])


def command(*words: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "train", *map(str, words)], capture_output=True, text=True, check=False
    )
