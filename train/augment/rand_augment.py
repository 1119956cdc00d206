"""RandAugment (Cubuk et al. 2020, arXiv 1909.13719) on a batch: timm's fifteen operations, each image its own.

An operation is a warp, a table of levels, or a blend, so that a layer is three passes over the batch, in which each
image has its own map, table and factor, and not fifteen results to choose from.

What differs from timm (timm/data/auto_augment.py): magnitudes are whole 64ths of a level; a warp's interpolation is
one for all (timm draws bilinear or bicubic where none is asked for; DeiT asks for bicubic), and within a level of
Pillow's (`train/augment/geometry.py`); where the magnitude is above 10 it is its own limit (timm's mmax); Posterize
to no bit at all is black, as in Pillow before 13, which refuses it. What
differs from big_vision (pp/autoaugment.py), with a probability of 1, no std and not increasing: Cutout is not among
the operations, translations are up to 0.45 of the side and not 100 pixels, Posterize, Solarize and SolarizeAdd stop
where timm's do, and what comes from outside the image has the data's mean colour and not 128.
"""

import jax
import jax.numpy as jnp
from jax import Array

from train.augment.arguments import NUMBER, WARPS, Arguments, arguments
from train.augment.colour import blend, grey, mean_grey, smooth
from train.augment.geometry import Affine, Interpolation, warp
from train.augment.lookup import (
    LEVELS,
    autocontrast,
    brighten,
    counts,
    equalize,
    look_up,
    posterize,
    solarize,
    solarize_add,
)
from train.draws import RandAugmentDraws
from train.draws.images import LEVEL

INVERT_ALL = 0  # the threshold with which Solarize is Invert


def rand_augment(
    images: Array,
    draws: RandAugmentDraws,
    *,
    limit: float,
    increasing: bool,
    fill: tuple[int, ...],
    interpolation: Interpolation,
) -> Array:
    """uint8 (B, H, W, C) -> same, N operations an image.

    Args:
        draws: (B, N) each.
        limit: the largest magnitude that can have been drawn.
        increasing: timm's -inc1: Posterize, Solarize and the four blends are the stronger the larger the magnitude.
        fill: the colour of what comes from outside the image, a number for each channel.

    Raises:
        ValueError: neither one channel nor three.
    """
    table = arguments(round(limit * LEVEL), increasing, *images.shape[1:3])

    def layer(images: Array, draws: RandAugmentDraws) -> tuple[Array, None]:
        operation = jnp.where(draws.applied, draws.operation, -1)
        factor = jnp.array(table.factor)[draws.negative.astype(jnp.int32), draws.magnitude]
        affine = _affine(table, operation, draws.magnitude, draws.negative)
        images = warp(images, affine, fill, interpolation)
        images = look_up(images, _levels(images, table, operation, draws.magnitude, factor))
        return _blended(images, operation, factor), None

    return jax.lax.scan(layer, images, jax.tree.map(jnp.transpose, draws))[0]


def _affine(table: Arguments, operation: Array, magnitude: Array, negative: Array) -> Affine:
    """The map of each image; one that changes nothing where the operation is no warp."""
    which = sum((operation == NUMBER[name]) * (place + 1) for place, name in enumerate(WARPS))
    sign = negative.astype(jnp.int32)
    return Affine(jnp.array(table.coarse)[which, sign, magnitude], jnp.array(table.fine)[which, sign, magnitude])


def _levels(images: Array, table: Arguments, operation: Array, magnitude: Array, factor: Array) -> Array:
    """The table of each image: (B, 256, C)."""
    B, _, _, C = images.shape
    counted, black = counts(images), jnp.zeros((B, 1, 1, 1), jnp.uint8)
    tables = {
        "AutoContrast": autocontrast(counted),
        "Equalize": equalize(counted),
        "Invert": solarize(jnp.full(B, INVERT_ALL)),
        "Posterize": posterize(jnp.array(table.bits)[magnitude]),
        "Solarize": solarize(jnp.array(table.threshold)[magnitude]),
        "SolarizeAdd": solarize_add(jnp.array(table.added)[magnitude]),
        "Contrast": brighten(factor, mean_grey(images)),
        "Brightness": brighten(factor, black),
    }
    levels = jnp.broadcast_to(LEVELS, (B, 256, C))
    for name, one in tables.items():
        levels = jnp.where((operation == NUMBER[name])[:, None, None], one, levels)
    return levels


def _blended(images: Array, operation: Array, factor: Array) -> Array:
    """Color and Sharpness; a factor of 1 changes nothing."""
    color, sharp = ((operation == NUMBER[name])[:, None, None, None] for name in ("Color", "Sharpness"))
    degenerate = jnp.where(color, grey(images), smooth(images))
    return blend(degenerate, images, jnp.where(color | sharp, factor[:, None, None, None], 1))
