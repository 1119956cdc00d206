"""A whole training run is the same in both frameworks, to float64 rounding: parameters, EMA, losses, learning rates.

Whatever the update rule, with everything on that a step can do (parity_tests/trajectories.py says what); that a mistake
in any of it is seen has a file of its own, test_train_step_mistakes.py.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests.compare import elementwise, gap
from parity_tests.selection import quick
from parity_tests.tolerances import EXACT, NARROWED
from parity_tests.trajectories import (
    CASES,
    CONFIG,
    EXAMPLES,
    HARD,
    IMAGES,
    MEAN,
    PARTS,
    RULES,
    STD,
    STEPS,
    WARMUP,
    compare,
    data,
    make_step,
    recorded,
    specified,
)
from train.devices.placement import make_placement
from train.draws import Draws, draw, step_key
from train.evaluation.split import make_evaluate
from train.input.data import Data
from train.input.order import batch_indices
from train.input.sources.arrays import Arrays as InMemory
from train.step import Batch, State
from vit_torch import training


@pytest.mark.parametrize("case", quick([*CASES], ["adamw", PARTS]))
def test_a_hundred_steps_are_the_specifications(case: str):
    given = recorded(case)
    compare(given.after[STEPS], specified(given))


@pytest.mark.parametrize("rule", quick(RULES, ["adamw"]))
def test_those_steps_did_everything(rule: str):
    """No part of the step passes for want of use."""
    given = recorded(rule)
    assert given.hyper.rule == rule
    assert given.hyper.clip_norm is not None
    assert given.hyper.accumulate == 2
    cutmix = [draws.use_cutmix for draws in given.draws]
    mixup = [not draws.use_cutmix and draws.lam < 1 for draws in given.draws]
    assert min(sum(cutmix), sum(mixup), STEPS - sum(cutmix) - sum(mixup)) >= 3
    cut_off = [d for d in given.draws if d.use_cutmix and abs(training.cutmix_lam(d.box, 8, 12) - d.lam) > 0.05]
    assert len(cut_off) >= 3
    norms, rates = (given.after[STEPS].metrics[name] for name in ("grad_norm", "learning_rate"))
    assert (norms > given.hyper.clip_norm).any()
    assert rates.argmax() == WARMUP
    assert 0 < rates[-1] < 0.1 * rates.max()
    factors = torch.stack([draws.drop_path for draws in given.draws if draws.drop_path is not None])
    assert (factors[:, 0] == 1).all()
    assert set(np.unique(factors[:, 1])) == {0.0, 1 / 0.7}
    assert any(draws.flip.any() for draws in given.draws)
    assert {int(n) for draws in given.draws for n in draws.corner.flatten()} == {0, 1, 2, 3, 4}


@pytest.mark.slow
def test_one_stochastic_depth_for_all_blocks_drops_in_the_first_too():
    factors = torch.stack([draws.drop_path for draws in recorded(HARD).draws if draws.drop_path is not None])
    assert {*np.unique(factors[:, 0])} == {*np.unique(factors[:, 1])} == {0.0, 1 / 0.7}


def test_those_with_frozen_parts_froze_some_of_them():
    given = recorded(PARTS)
    moved = {name for name, x in given.after[STEPS].params.items() if (x != given.initial[name].numpy()).any()}
    assert moved == set(given.initial) - training.frozen_names(given.hyper.frozen, given.initial)
    assert "patch_embed.proj.bias" in moved
    assert not {"cls_token", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight"} & moved


def test_train_step_is_its_draws_and_then_update():
    """The same program, operation by operation: nothing has to be compiled to see it."""
    _, step, params = make_step()
    images, labels = (jnp.array(x[:6]) for x in data())

    def in_two(state: State, batch: Batch) -> Any:
        return step.update(state, batch, step.draw(step_key(CONFIG.seed, state.step), IMAGES))

    given = step.init(params), Batch(images, labels)
    assert str(jax.make_jaxpr(step.train_step)(*given)) == str(jax.make_jaxpr(in_two)(*given))


def test_evaluation_counts_every_example_once():
    """With a model that says 0 to everything, so that what fills the last batch would count, too."""
    _, step, params = make_step()
    images, labels = data()
    params["head.kernel"] = jnp.zeros_like(params["head.kernel"])
    params["head.bias"] = jnp.array([1.0, 0, 0, 0, 0])
    source = InMemory(images, labels, tuple("abcde"), "drawn")
    for where in (True, False):
        of = replace(CONFIG, data=replace(CONFIG.data, resident=where, mean=MEAN, std=STD))
        found = make_evaluate(step, Data(of, source, source), make_placement(of, jax.devices()[:1]))(params)
        assert found.count == EXAMPLES
        assert found.correct == (labels == 0).sum() > 0
        assert found.correct_top5 == EXAMPLES
        assert gap(found.loss, np.log(np.e + 4) - np.mean(labels == 0)) < EXACT
        assert found.confusion is not None
        assert found.confusion[:, 0].tolist() == np.bincount(labels, minlength=5).tolist()
        assert found.class_accuracy.tolist() == [1, 0, 0, 0, 0]


@pytest.mark.slow
def test_draws_are_of_seed_and_step_alone_and_the_same_in_every_precision():
    more: Any = dict(rand_augment_layers=2, three_augment=True, color_jitter=0.3, erase_prob=0.5, erase_mode="const")
    everything = replace(CONFIG.augment, **more)

    @partial(jax.jit, static_argnums=(0, 2))
    def drawn(seed: int, step: int, dtype: Any) -> Draws:
        key = step_key(seed, jnp.int32(step))
        return draw(key, everything, IMAGES, drop_path=np.linspace(0, 0.3, 3), dropout=False, dtype=dtype)

    wide = drawn(3, 5, jnp.float64)
    with jax.enable_x64(False):
        narrow = drawn(3, 5, jnp.float32)
    leaves, _ = jax.tree.flatten_with_path(narrow)
    assert len(leaves) == 7 + 4 + 2 + 2 + 1  # all but dropout's key; RandAugment, 3-Augment, jitter, erasing
    for (path, a), b in zip(leaves, jax.tree.leaves(wide), strict=True):
        assert elementwise(a, b) <= NARROWED, jax.tree_util.keystr(path)
    assert (drawn(3, 6, jnp.float64).partner != wide.partner).any()
    three, four = (jax.random.key_data(step_key(seed, jnp.int32(5))) for seed in (3, 4))
    assert (three != four).any()


def test_an_epoch_sees_every_example_once_and_the_next_in_another_order():
    def epoch(number: int) -> np.ndarray:
        return np.concatenate([batch_indices(0, number * 4 + i, 20, 5) for i in range(4)])

    first, second = epoch(0), epoch(1)
    assert sorted(first) == sorted(second) == list(range(20))
    assert (first != second).any()
    np.testing.assert_array_equal(first, epoch(0))
