"""The draws that change single images: RandAugment, 3-Augment, colour jitter, random erasing.

What is not switched on is None. Every array begins with the batch, so that a part of the batch takes its part of
the draws.
"""

from math import log
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from train.config import AugmentConfig

# fold_in(step's key, n) for these; `train/draws/step.py` splits the same key into the first nine of such numbers.
RAND_AUGMENT, THREE_AUGMENT, JITTER, ERASE = range(16, 20)

OPERATIONS = 15  # of RandAugment
LEVEL = 64  # a magnitude is a whole number of 64ths: `train/augment/arguments.py` has a row for each
ATTEMPTS = 10  # at a rectangle that fits, as in timm/data/random_erasing.py
AREA = (0.02, 1 / 3)  # of the image that is erased
ASPECT = (0.3, 1 / 0.3)  # height over width of what is erased


class RandAugmentDraws(NamedTuple):
    """N operations for each image, one after another."""

    operation: Array  # (B, N) int32: its number in `train.augment.arguments.NAMES`
    applied: Array  # (B, N) booleans: else the image stays as it is
    magnitude: Array  # (B, N) int32: 64ths
    negative: Array  # (B, N) booleans: to the left, up, darker, ... rather than the other way


class ThreeAugmentDraws(NamedTuple):
    """One of three changes for each image."""

    choice: Array  # (B,) int32: 0 grey, 1 solarized, 2 blurred
    sigma: Array  # (B,) float32: how wide the blur is, in pixels


class JitterDraws(NamedTuple):
    """Brightness, contrast and saturation (0, 1, 2) of each image."""

    order: Array  # (B, 3) int32: which comes first, second, third
    factor: Array  # (B, 3) float32: of brightness, contrast and saturation; 1 changes nothing


class EraseDraws(NamedTuple):
    """One rectangle for each image."""

    box: Array  # (B, 4) int32: top, bottom, left, right; ends excluded; empty where nothing is erased
    noise: Array | None  # (B,) keys of the pixels' noise; None: zeros


def draw_rand_augment(key: Array, config: AugmentConfig, B: int) -> RandAugmentDraws | None:
    """As timm's RandAugment draws: operations with replacement; see AugmentOp in timm/data/auto_augment.py."""
    shape = B, config.rand_augment_layers
    if not config.rand_augment_layers:
        return None
    which, whether, how_much, sign = jax.random.split(jax.random.fold_in(key, RAND_AUGMENT), 4)
    noise = jax.random.normal(how_much, shape, jnp.float32)
    magnitude = config.rand_augment_magnitude + config.rand_augment_std * noise
    magnitude = jnp.clip(magnitude, 0, config.rand_augment_limit)
    return RandAugmentDraws(
        operation=jax.random.randint(which, shape, 0, OPERATIONS, jnp.int32),
        applied=jax.random.bernoulli(whether, jnp.float32(config.rand_augment_prob), shape),
        magnitude=jnp.round(magnitude * LEVEL).astype(jnp.int32),
        negative=jax.random.bernoulli(sign, jnp.float32(0.5), shape),
    )


def draw_three_augment(key: Array, config: AugmentConfig, B: int) -> ThreeAugmentDraws | None:
    """As augment.py of facebookresearch/deit draws: one of three, and a sigma in 0.1..2."""
    if not config.three_augment:
        return None
    which, width = jax.random.split(jax.random.fold_in(key, THREE_AUGMENT))
    choice = jax.random.randint(which, (B,), 0, 3, jnp.int32)
    return ThreeAugmentDraws(choice, jax.random.uniform(width, (B,), jnp.float32, 0.1, 2.0))


def draw_jitter(key: Array, config: AugmentConfig, B: int) -> JitterDraws | None:
    """As torchvision's ColorJitter draws: factors in 1 - strength .. 1 + strength, not below 0, in any order."""
    strength = config.color_jitter
    if not strength:
        return None
    order, factor = jax.random.split(jax.random.fold_in(key, JITTER))
    return JitterDraws(
        order=jnp.argsort(jax.random.uniform(order, (B, 3), jnp.float32), axis=-1).astype(jnp.int32),
        factor=jax.random.uniform(factor, (B, 3), jnp.float32, max(0.0, 1 - strength), 1 + strength),
    )


def draw_erase(key: Array, config: AugmentConfig, shape: tuple[int, int, int]) -> EraseDraws | None:
    """As timm's RandomErasing draws, for a batch of (B, H, W)."""
    B, H, W = shape
    if not config.erase_prob:
        return None
    whether, size, place, noise = jax.random.split(jax.random.fold_in(key, ERASE), 4)
    area, aspect = jax.random.uniform(size, (2, B, ATTEMPTS), jnp.float32)
    erased = jax.random.bernoulli(whether, jnp.float32(config.erase_prob), (B,))
    height, width = first_that_fits(area, aspect, H, W)
    sides = jnp.where(erased[:, None], jnp.stack([height, width], -1), 0)
    begin = jax.random.randint(place, (B, 2), 0, jnp.array([H, W], jnp.int32) - sides + 1, jnp.int32)
    box = jnp.stack([begin, begin + sides], -1).reshape(B, 4)
    return EraseDraws(box, jax.random.split(noise, B) if config.erase_mode == "pixel" else None)


def first_that_fits(area: Array, aspect: Array, H: int, W: int) -> tuple[Array, Array]:
    """Height and width (B,) of the first attempt that is smaller than the image both ways; 0 where none is.

    area and aspect (B, attempts) are in 0..1: where each lies in AREA, and its logarithm in that of ASPECT.
    """
    pixels = (AREA[0] + (AREA[1] - AREA[0]) * area) * (H * W)
    ratio = jnp.exp(log(ASPECT[0]) + (log(ASPECT[1]) - log(ASPECT[0])) * aspect)
    height = jnp.round(jnp.sqrt(pixels * ratio)).astype(jnp.int32)
    width = jnp.round(jnp.sqrt(pixels / ratio)).astype(jnp.int32)
    fits = (height < H) & (width < W)
    first = jnp.argmax(fits, axis=-1, keepdims=True)
    sides = [jnp.take_along_axis(jnp.where(fits, side, 0), first, axis=-1)[:, 0] for side in (height, width)]
    return sides[0], sides[1]
