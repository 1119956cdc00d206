"""Which examples a step sees is a function of (seed, step) alone: a permutation an epoch, another one each time."""

import math
from typing import Any

import numpy as np
import pytest
from grain.experimental import index_shuffle
from hypothesis import assume, given
from hypothesis import strategies as st

from train.input import shuffle
from train.input.order import batch_indices
from train.input.shuffle import shuffled

GOLDEN = [[240984, 1142230, 320361, 945980], [729, 412, 854, 454]]


def epoch(number: int, *, seed: int = 0, count: int = 103, batch: int = 10, repeats: int = 1) -> np.ndarray:
    """The examples of all steps of an epoch, in order."""
    steps = count // batch
    taken = [batch_indices(seed, number * steps + at, count, batch, repeats) for at in range(steps)]
    return np.concatenate(taken)


@pytest.mark.parametrize("number", [0, 1, 57])
def test_an_epoch_sees_every_example_once_but_for_what_fills_no_batch(number: int):
    seen = epoch(number)
    assert len(seen) == len(set(seen.tolist())) == 100
    assert set(seen.tolist()) <= set(range(103))
    assert len(epoch(number, count=100)) == 100
    assert sorted(epoch(number, count=100)) == list(range(100))


def test_epochs_and_seeds_differ():
    orders = [epoch(0), epoch(1), epoch(2), epoch(0, seed=1), epoch(1, seed=1)]
    for i, a in enumerate(orders):
        for b in orders[:i]:
            assert (a == b).mean() < 0.1  # two permutations of 100 share one place in the mean


def test_what_is_left_out_changes_from_epoch_to_epoch():
    left = [frozenset(range(103)) - set(epoch(number).tolist()) for number in range(20)]
    assert all(len(out) == 3 for out in left)
    assert len(set(left)) > 15


def test_a_shuffle_is_even():
    """Each example comes in each fifth of an epoch about as often: chi-squared of 50 examples in 5 fifths."""
    counts = np.zeros((50, 5))
    for number in range(100):
        counts[epoch(number, count=50), np.arange(50) // 10] += 1
    chi2 = ((counts - 20) ** 2 / 20).sum()
    assert 110 < chi2 < 282  # 196 degrees of freedom (49 x 4), standard deviation 20


def test_an_image_is_repeated_in_one_batch():
    seen = epoch(3, repeats=5)
    assert (seen.reshape(-1, 5) == seen[::5, None]).all()
    assert len(set(seen.tolist())) == 20


def test_the_order_is_the_same_for_ever():
    """Saved runs go on with it: these numbers may not change with a version of Grain or NumPy."""
    assert batch_indices(0, 0, 1_281_167, 4).tolist() == GOLDEN[0]
    assert batch_indices(3, 900, 1437, 4).tolist() == GOLDEN[1]


@given(count=st.integers(1, 2**40) | st.integers(1, 2**18), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_the_order_is_grains(count: int, seed: int, data: st.DataObject):
    """But where Grain's is no permutation, see below."""
    assume(math.log2(max(count - 1, 1)) % 1 or count <= 2**15 + 1)
    places = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=20))
    expected = [index_shuffle(place, count - 1, seed, 4) for place in places]
    assert shuffled(np.array(places), count, seed).tolist() == expected


@pytest.mark.parametrize("count", [65_536, 65_537, 65_538, 131_073, 262_145])
def test_an_order_of_any_length_is_a_permutation(count: int):
    """Grain's, of 65,537 or 262,145, leaves one out and gives another twice."""
    assert (np.sort(shuffled(np.arange(count), count, 7)) == np.arange(count)).all()


@pytest.mark.parametrize("step", [0, 10**7])
def test_a_step_costs_the_same_anywhere(step: int, monkeypatch: pytest.MonkeyPatch):
    """Few numbers are computed beside those of the batch, however many examples there are and wherever the step is."""
    computed, encrypted = [], shuffle._encrypted

    def counted(values: np.ndarray, *rest: Any) -> np.ndarray:
        computed.append(len(values))
        return encrypted(values, *rest)

    monkeypatch.setattr(shuffle, "_encrypted", counted)
    batch_indices(0, step, 10**9, 32)
    assert 32 <= sum(computed) < 32 * 4
