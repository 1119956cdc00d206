"""Augmentation on the device is the specification's, and keeps what it must keep."""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parity_tests.compare import apart, elementwise, gap
from parity_tests.pictures import crops
from parity_tests.tolerances import EXACT, FLOAT32
from train import augment
from train.config import AugmentConfig
from train.draws import Draws, block_rates, draw, step_key
from vit_torch import training

B, H, W, K = 6, 8, 10, 7
STEPS = st.integers(0, 100_000)
BOTH = AugmentConfig(padding=2, flip=True, mixup_alpha=0.8, cutmix_alpha=1.0, mix_share=0.9)


@cache
def drawer(config: AugmentConfig, schedule: str) -> Callable[[jax.Array], Draws]:
    """Steps (N,) -> their draws, stacked; compiled once for a config."""
    run = {"drop_path": block_rates(0.4, schedule, 3), "dropout": False, "dtype": jnp.float64}
    return jax.jit(jax.vmap(lambda step: draw(step_key(0, step), config, (B, H, W), **run)))


def drawn(step: int, config: AugmentConfig = BOTH) -> Draws:
    """The draws of one step, as NumPy arrays."""
    return jax.tree.map(lambda x: np.asarray(x)[0], drawer(config, "linear")(jnp.array([step])))


def many(config: AugmentConfig = BOTH, schedule: str = "linear") -> Draws:
    """The draws of 400 steps."""
    return jax.tree.map(np.asarray, drawer(config, schedule)(jnp.arange(400)))


def nchw(images: np.ndarray) -> torch.Tensor:
    return torch.tensor(images).permute(0, 3, 1, 2)


def nhwc(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).numpy()


@jax.jit
def move(images: jax.Array, draws: Draws) -> jax.Array:
    return augment.flip(augment.shift(images, draws.corner, BOTH.padding), draws.flip)


@jax.jit
def mix(x: jax.Array, labels: jax.Array, draws: Draws) -> tuple[jax.Array, jax.Array]:
    return augment.mix_images(x, x[draws.partner], draws), augment.targets(labels, draws, (H, W), K, 0.1)


def box_of(draws: Draws) -> tuple[int, int, int, int]:
    top, bottom, left, right = (int(edge) for edge in draws.box)
    return top, bottom, left, right


@settings(max_examples=30)
@given(step=STEPS)
def test_shift_and_flip_are_the_specifications(step: int):
    draws, images = drawn(step), crops(B, H, W, step)
    theirs = training.shift(nchw(images), torch.tensor(draws.corner), BOTH.padding)
    theirs = training.flip(theirs, torch.tensor(draws.flip))
    np.testing.assert_array_equal(move(images, draws), nhwc(theirs))


@settings(max_examples=40)
@given(step=STEPS)
def test_mixing_is_the_specifications(step: int):
    draws, x, labels = drawn(step), crops(B, H, W, step) / 255, np.arange(B) % K
    partner, box, lam = torch.tensor(draws.partner), box_of(draws), float(draws.lam)
    if draws.use_cutmix:
        theirs, lam = training.cutmix(nchw(x), partner, box), training.cutmix_lam(box, H, W)
    else:
        theirs = training.mixup(nchw(x), partner, lam)
    one_hot = training.smooth_one_hot(torch.tensor(labels), K, 0.1, torch.float64)
    images, targets = mix(x, labels, draws)
    assert gap(images, nhwc(theirs)) < EXACT
    assert gap(targets, training.mixup(one_hot, partner, lam)) < EXACT
    assert apart(targets.sum(-1), np.ones(B)) < EXACT


def test_draws_stay_in_their_ranges():
    draws = many()
    top, bottom, left, right = draws.box.T
    assert (top >= 0).all() and (top <= bottom).all() and (bottom <= H).all()  # noqa: PT018
    assert (left >= 0).all() and (left <= right).all() and (right <= W).all()  # noqa: PT018
    assert set(draws.corner.ravel()) == set(range(2 * BOTH.padding + 1))
    assert draws.lam.min() >= 0
    assert draws.lam.max() <= 1
    assert (np.sort(draws.partner) == np.arange(B)).all()


def test_a_cutmix_box_has_one_minus_lam_of_the_area():
    """Sides of sqrt(1 - lam) (Yun et al. 2019, eq. 2), but where the border cuts them."""
    draws, size = many(), np.array([H, W])
    sides = np.floor(size.astype(np.float32) * np.sqrt(1 - draws.lam[:, None]))
    begin, end = draws.box[:, ::2], draws.box[:, 1::2]
    whole = (begin > 0) & (end < size) & draws.use_cutmix[:, None]
    assert whole.sum() > 100
    assert (end - begin <= sides).all()
    assert (end - begin == sides)[whole].all()


def test_flips_are_half_or_none():
    assert abs(many().flip.mean() - 0.5) < 0.05
    assert not many(AugmentConfig()).flip.any()


@pytest.mark.parametrize(
    ("config", "cutmix", "mixed"),
    [
        pytest.param(AugmentConfig(), 0.0, 0.0, marks=pytest.mark.slow),
        pytest.param(AugmentConfig(cutmix_alpha=1.0), 1.0, 1.0, marks=pytest.mark.slow),
        (AugmentConfig(mixup_alpha=0.8, cutmix_alpha=1.0, cutmix_share=0.25, mix_share=0.8), 0.2, 0.8),
    ],
)
def test_batches_are_mixed_as_often_as_asked(config: AugmentConfig, cutmix: float, mixed: float):
    """Within four standard deviations of a coin with those odds."""
    draws = many(config)
    for found, wanted in ((draws.use_cutmix.mean(), cutmix), ((draws.lam < 1).mean(), mixed)):
        assert abs(found - wanted) <= 4 * (wanted * (1 - wanted) / 400) ** 0.5


def test_stochastic_depth_is_the_same_in_all_blocks_if_asked():
    """As DeiT III has it."""
    factors = many(schedule="constant").drop_path
    assert factors is not None
    np.testing.assert_allclose((factors == 0).mean((0, 2, 3)), [0.4, 0.4, 0.4], atol=0.03)
    assert elementwise(factors.max((0, 2, 3)), [1 / 0.6] * 3) < FLOAT32


def test_stochastic_depth_grows_linearly_and_keeps_the_mean():
    factors = many().drop_path  # (400, depth, 2, B)
    assert factors is not None
    np.testing.assert_allclose((factors == 0).mean((0, 2, 3)), [0, 0.2, 0.4], atol=0.03)
    np.testing.assert_allclose(factors.mean((0, 2, 3)), 1, atol=0.05)
    assert elementwise(factors.max((0, 2, 3)), [1, 1 / 0.8, 1 / 0.6]) < FLOAT32
