"""Colour jitter and 3-Augment are torchvision's and DeiT III's, bit for bit, on the same draws."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps
from torchvision.transforms import Grayscale
from torchvision.transforms import functional as torchvision

from parity_tests.pictures import GREY, RGB, pillow
from train.augment.colour import blend, box_weights, gaussian_blur, grey, jitter
from train.augment.three_augment import three_augment
from train.draws import JitterDraws, ThreeAugmentDraws

JITTER: list[Callable[..., Any]] = [
    torchvision.adjust_brightness,
    torchvision.adjust_contrast,
    torchvision.adjust_saturation,
]
FACTORS = st.tuples(*[st.floats(0, 2, width=32)] * 3)
ORDERS = st.permutations(range(3))
SIGMAS = st.floats(float(np.float32(0.1)), 2, width=32)
BATCHES = pytest.mark.parametrize("images", [RGB, GREY], ids=["photographs", "digits"])
run_jitter, run_three, run_blur = jax.jit(jitter), jax.jit(three_augment), jax.jit(gaussian_blur)


def array(image: Image.Image, like: np.ndarray) -> np.ndarray:
    return np.asarray(image).reshape(like.shape)


@BATCHES
@settings(max_examples=40)
@given(factors=st.lists(FACTORS, min_size=4, max_size=4), orders=st.lists(ORDERS, min_size=4, max_size=4))
def test_colour_jitter_is_torchvisions_bit_for_bit(images, factors, orders):
    """Its functions on Pillow's images, in each image's own order."""
    count = len(images)
    draws = JitterDraws(jnp.array(orders[:count], jnp.int32), jnp.array(factors[:count], jnp.float32))
    for image, ours, order, factor in zip(images, run_jitter(images, draws), orders, factors, strict=False):
        theirs = pillow(image)
        for which in order:
            theirs = JITTER[which](theirs, factor[which])
        np.testing.assert_array_equal(ours, array(theirs, image))


def test_blends_round_twice_as_pillows_do():
    """Where a product and a sum rounded at once, as compilers fuse them, would give another level."""
    factor = np.array([0.2, 0.4, 0.6, 0.7, 0.9, 1.1, 1.2, 1.3, 1.4, 1.7, 1.9], np.float32).reshape(-1, 1, 1)
    start, end = np.arange(256, dtype=np.float32)[:, None], np.arange(256, dtype=np.float32)
    twice = np.clip(start + factor * (end - start), 0, 255).astype(np.uint8)
    fused = np.clip((start.astype(float) + factor.astype(float) * (end - start)).astype(np.float32), 0, 255)
    tells = twice != fused.astype(np.uint8)
    assert tells.sum() > 100
    ours = jax.jit(blend)(start, end, factor)
    np.testing.assert_array_equal(np.asarray(ours)[tells], twice[tells])
    first, second = (pillow(np.broadcast_to(x, (256, 256)).astype(np.uint8)[..., None]) for x in (start, end))
    for alpha, blended in zip(factor.ravel(), ours, strict=True):
        np.testing.assert_array_equal(blended, np.asarray(Image.blend(first, second, float(alpha))))


@BATCHES
@settings(max_examples=40)
@given(sigma=SIGMAS)
def test_gaussian_blur_is_pillows_bit_for_bit(images, sigma):
    ours = run_blur(images, jnp.full(len(images), sigma, jnp.float32))
    for image, blurred in zip(images, ours, strict=True):
        theirs = pillow(image).filter(ImageFilter.GaussianBlur(sigma))
        np.testing.assert_array_equal(blurred, array(theirs, image))


def test_the_blurs_weights_are_pillows_for_every_sigma():
    """Twenty thousand of them, in NumPy's float32, an operation at a time: a last bit shows in few pictures."""
    sigma = np.random.default_rng(0).uniform(0.1, 2, 20_000).astype(np.float32)
    one, two, three, six = np.array([1, 2, 3, 6], np.float32)
    s = sigma * sigma / three
    whole = np.floor((np.sqrt(12 * s.astype(np.float64) + 1).astype(np.float32) - one) / two)
    part = (two * whole + one) * (whole * (whole + one) - three * s)
    radius = whole + part / (six * (s - (whole + one) * (whole + one)))
    full = (np.float32(2**24) / (two * radius + one)).astype(np.uint32)
    np.testing.assert_array_equal(jax.jit(box_weights)(sigma)[:, 0], full)


@BATCHES
@settings(max_examples=20)
@given(choices=st.lists(st.integers(0, 2), min_size=4, max_size=4), sigma=SIGMAS)
def test_three_augment_is_deit_iiis_bit_for_bit(images, choices, sigma):
    """What facebookresearch/deit's augment.py calls: Grayscale(3), ImageOps.solarize, ImageFilter.GaussianBlur."""
    count, channels = len(images), images.shape[-1]
    apply = (Grayscale(channels), ImageOps.solarize, lambda image: image.filter(ImageFilter.GaussianBlur(sigma)))
    draws = ThreeAugmentDraws(jnp.array(choices[:count]), jnp.full(count, sigma, jnp.float32))
    for image, ours, choice in zip(images, run_three(images, draws), choices, strict=False):
        np.testing.assert_array_equal(ours, array(apply[choice](pillow(image)), image))


def test_images_of_other_channels_are_refused():
    with pytest.raises(ValueError, match="needs images of 1 or 3 channels, got 4"):
        grey(jnp.zeros((1, 4, 4, 4), jnp.uint8))
