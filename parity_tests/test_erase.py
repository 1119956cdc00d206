"""Random erasing is timm's, on the same draws."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from timm.data.random_erasing import RandomErasing

from parity_tests.pictures import crops
from train.augment.erase import erase, noise_like
from train.config import AugmentConfig
from train.draws import EraseDraws
from train.draws.images import AREA, ASPECT, ATTEMPTS, draw_erase, first_that_fits

H, W, C = 24, 40, 3
SHARES = st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 2), min_size=ATTEMPTS, max_size=ATTEMPTS)
X = ((crops(1, H, W)[0] / 255 - 0.45) / 0.22).astype(np.float32)
run = jax.jit(erase)
sides = jax.jit(first_that_fits, static_argnums=(2, 3))


def theirs(shares: list[tuple[float, float]], place: float, mode: str, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """timm's RandomErasing of X, given what it draws: each attempt's area and aspect, and how far along to begin."""
    drawn = iter(value for pair in shares for value in pair)
    monkeypatch.setattr(random, "random", lambda: 0.0)
    monkeypatch.setattr(random, "uniform", lambda low, high: low + (high - low) * next(drawn))
    monkeypatch.setattr(random, "randint", lambda low, high: low + round((high - low) * place))
    erased = RandomErasing(1.0, mode=mode, device="cpu")(torch.tensor(X).permute(2, 0, 1).clone())
    return erased.permute(1, 2, 0).numpy()


def exact_sides(area: float, aspect: float) -> tuple[float, float]:
    """Before rounding, in float64."""
    pixels = (AREA[0] + (AREA[1] - AREA[0]) * area) * H * W
    ratio = np.exp(np.log(ASPECT[0]) + (np.log(ASPECT[1]) - np.log(ASPECT[0])) * aspect)
    return float(np.sqrt(pixels * ratio)), float(np.sqrt(pixels / ratio))


@settings(max_examples=100)
@given(shares=SHARES, place=st.floats(0, 1))
def test_rectangles_are_timms(shares, place):
    """timm rounds in float64: sides within 1e-3 of a half are left out."""
    for pair in shares:
        assume(all(abs(side % 1 - 0.5) > 1e-3 for side in exact_sides(*pair)))
    area, aspect = jnp.array(shares, jnp.float32).T[:, None]
    height, width = (int(side[0]) for side in sides(area, aspect, H, W))
    top, left = round((H - height) * place), round((W - width) * place)
    ours = run(X[None], EraseDraws(jnp.array([[top, top + height, left, left + width]]), None))[0]
    with pytest.MonkeyPatch.context() as patch:
        np.testing.assert_array_equal(ours, theirs(shares, place, "const", patch))


def test_noise_is_normal_and_only_in_the_rectangle():
    keys = jax.random.split(jax.random.key(0), 8)
    box = jnp.tile(jnp.array([[3, 20, 5, 38]]), (8, 1))
    x = np.broadcast_to(X, (8, H, W, C))
    ours = np.asarray(run(x, EraseDraws(box, keys)))
    inside = np.zeros((H, W), bool)
    inside[3:20, 5:38] = True
    np.testing.assert_array_equal(ours[:, ~inside], x[:, ~inside])
    drawn = ours[:, inside].ravel()
    assert abs(drawn.mean()) < 4 / drawn.size**0.5
    assert abs(drawn.std() - 1) < 4 / (2 * drawn.size) ** 0.5
    assert len(np.unique(drawn)) > 0.99 * drawn.size  # every pixel, channel and image its own
    np.testing.assert_array_equal(ours[3][inside], np.asarray(noise_like(keys[3:4], (H, W, C), x.dtype))[0][inside])


def test_as_many_images_are_erased_as_asked_and_within_timms_bounds():
    config, count = AugmentConfig(erase_prob=0.25), 4000
    draws = draw_erase(jax.random.key(1), config, (count, H, W))
    assert draws is not None
    top, bottom, left, right = np.asarray(draws.box).T
    area = (bottom - top) * (right - left)
    assert draws.noise is not None
    assert len(np.unique(jax.random.key_data(draws.noise), axis=0)) == count  # noise of its own for each
    erased = area > 0
    assert abs(erased.mean() - 0.25) < 4 * (0.25 * 0.75 / count) ** 0.5
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (bottom <= H).all()
    assert (right <= W).all()
    assert {top[erased].min(), left[erased].min(), (H - bottom)[erased].min(), (W - right)[erased].min()} == {0}
    share = area[erased] / (H * W)
    assert 0.02 - 0.01 < share.min() < 0.04
    assert 0.3 < share.max() < 1 / 3 + 0.02  # sides are rounded
