"""Colours: Pillow's ImageEnhance (blends with what lacks brightness, contrast, colour, sharpness), grey, blur.

Bit for bit Pillow's, as its x86-64 wheels compute it. Images have one channel or three; a grey one is its own grey,
so saturation and grey change nothing there, as in Pillow, timm and torchvision.
"""

import jax
import jax.numpy as jnp
from jax import Array

from train.augment.exact import opaque, product
from train.draws import JitterDraws


def blend(degenerate: Array, images: Array, factor: Array) -> Array:
    """degenerate + factor (images - degenerate), cut to whole levels in 0..255; uint8, factor float32.

    Reference: ImagingBlend of Pillow's src/libImaging/Blend.c.
    """
    start, end = degenerate.astype(jnp.float32), images.astype(jnp.float32)
    return jnp.clip(start + product(factor, end - start), 0, 255).astype(jnp.uint8)


def grey(images: Array) -> Array:
    """Luma of ITU-R 601-2: uint8 (B, H, W, C) -> (B, H, W, 1). Reference: L24 of Pillow's Convert.c.

    Raises:
        ValueError: neither one channel nor three.
    """
    channels = images.shape[-1]
    if channels not in (1, 3):
        raise ValueError(f"colour augmentation needs images of 1 or 3 channels, got {channels}")
    if channels == 1:
        return images
    r, g, b = jnp.moveaxis(images.astype(jnp.int32), -1, 0)
    return ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16).astype(jnp.uint8)[..., None]


def mean_grey(images: Array) -> Array:
    """The mean of the grey image, rounded half up: uint8 (B, H, W, C) -> uint8 (B, 1, 1, 1)."""
    count = images.shape[1] * images.shape[2]
    total = grey(images).astype(jnp.int32).sum((1, 2, 3), keepdims=True)
    return ((2 * total + count) // (2 * count)).astype(jnp.uint8)


def smooth(images: Array) -> Array:
    """Pillow's SMOOTH: (8 neighbours + 5 times the pixel) / 13, rounded; the border stays: uint8 -> same shape."""
    _, H, W, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    total = sum(padded[:, i : i + H, j : j + W].astype(jnp.int32) for i in range(3) for j in range(3))
    smoothed = ((2 * (total + 4 * images.astype(jnp.int32)) + 13) // 26).astype(jnp.uint8)
    rows, columns = jnp.arange(H)[:, None], jnp.arange(W)
    inner = (rows > 0) & (rows < H - 1) & (columns > 0) & (columns < W - 1)
    return jnp.where(inner[..., None], smoothed, images)


def jitter(images: Array, draws: JitterDraws) -> Array:
    """torchvision's ColorJitter without hue: uint8 (B, H, W, C) -> same."""
    for place in range(3):
        images = _jitter_once(images, draws.order[:, place], draws.factor)
    return images


def _jitter_once(images: Array, which: Array, factors: Array) -> Array:
    """Brightness (which = 0), contrast (1) or saturation (2), an image its own."""
    which = which[:, None, None, None]
    light = jnp.where(which == 0, jnp.uint8(0), mean_grey(images))
    degenerate = jnp.where(which == 2, grey(images), light)
    factor = jnp.take_along_axis(factors, which[:, 0, 0], axis=1)[:, :, None, None]
    return blend(degenerate, images, factor)


def gaussian_blur(images: Array, sigma: Array) -> Array:
    """Pillow's GaussianBlur: three box blurs a side, each rounded to a byte; uint8 (B, H, W, C) -> same.

    sigma (B,) float32, below 2.4: up to there a box reaches two pixels far. Reference: Pillow's BoxBlur.c.
    """
    weights = box_weights(sigma)
    for axis in (2, 1):
        for _ in range(3):
            images = _box_blur(images, weights, axis)
    return images


def box_weights(sigma: Array) -> Array:
    """(B,) -> (B, 3) uint32, in 2^-24: weights of a pixel, of its neighbours, of theirs.

    A box of radius l + a: 2 l + 1 whole pixels, and a part of the next (Gwosdek et al. 2011, eqs. 7, 11 and 14).
    """
    one, six = jnp.float32(1), jnp.float32(6)
    s = product(sigma, sigma) / opaque(3, sigma)
    whole = jnp.floor((jnp.sqrt(product(jnp.float32(12), s) + one) - one) / 2)
    part = product(2 * whole + one, product(whole, whole + one) - product(jnp.float32(3), s))
    radius = whole + part / product(six, s - product(whole + one, whole + one))
    full = (jnp.float32(2**24) / (2 * radius + one)).astype(jnp.uint32)
    wide = radius >= 1
    rest = (jnp.uint32(2**24) - jnp.where(wide, jnp.uint32(3), jnp.uint32(1)) * full) // 2
    return jnp.stack([full, jnp.where(wide, full, rest), jnp.where(wide, rest, jnp.uint32(0))], -1)


def _box_blur(images: Array, weights: Array, axis: int) -> Array:
    """One box blur along an axis, the border continued."""
    size = images.shape[axis]
    pad = [(2, 2) if i == axis else (0, 0) for i in range(4)]
    padded = jnp.pad(images, pad, mode="edge")
    taps = [jax.lax.slice_in_dim(padded, i, i + size, axis=axis).astype(jnp.uint32) for i in range(5)]
    centre, near, far = jnp.moveaxis(weights, -1, 0)[:, :, None, None, None]
    total = taps[2] * centre + (taps[1] + taps[3]) * near + (taps[0] + taps[4]) * far
    return ((total + jnp.uint32(2**23)) >> 24).astype(jnp.uint8)
