"""A batch computed in parts gives the whole batch's update: mixing, stochastic depth, smoothing and all."""

from typing import Any

import jax
import numpy as np
import pytest

from parity_tests.compare import gap, leaf_gaps, worst
from parity_tests.small_step import CONFIG, after, small_step
from parity_tests.tolerances import LOSS, PARAMETERS
from train.config import ConfigError


@pytest.fixture(scope="module")
def whole() -> tuple[Any, Any]:
    return after(small_step(), steps=3)


@pytest.mark.parametrize("parts", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_parts_give_the_whole_batchs_update(whole: tuple[Any, Any], parts: int):
    state, metrics = after(small_step(accumulate=parts), steps=3)
    for name in ("loss", "accuracy", "grad_norm", "learning_rate"):
        assert gap(metrics[name], whole[1][name]) < LOSS, name
    for ours, theirs in ((state.params, whole[0].params), (state.ema, whole[0].ema)):
        found = leaf_gaps(jax.tree.map(np.asarray, ours), jax.tree.map(np.asarray, theirs))
        assert max(found.values()) < PARAMETERS, worst(found)


@pytest.mark.slow
def test_a_mean_over_the_first_part_alone_would_be_seen(whole: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch):
    from train import accumulate

    split = accumulate.split
    monkeypatch.setattr(
        accumulate, "split", lambda inputs, parts: jax.tree.map(lambda x: x.at[1:].set(x[0]), split(inputs, parts))
    )
    state, _ = after(small_step(accumulate=2), steps=3)
    found = leaf_gaps(jax.tree.map(np.asarray, state.params), jax.tree.map(np.asarray, whole[0].params))
    assert max(found.values()) > PARAMETERS


def test_parts_have_to_be_equal():
    with pytest.raises(ConfigError, match=r"batch_size 12 can't be computed in optimizer.accumulate 5 equal parts"):
        small_step(CONFIG, accumulate=5)
