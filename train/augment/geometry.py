"""Where an image's pixels come from: shift, flip, and affine warps that are Pillow's.

A warp's coefficients and positions are whole numbers, so every device, and every way of cutting the batch, finds the
same pixels. `nearest` equals Pillow's bit for bit. Pillow interpolates in float64, here float32 does, and both cut
the fraction off: `bilinear` and `bicubic` differ by at most one level, where the value is that close to a whole one.
A position within 2^-24 of the image's border may fall on its other side.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from train.augment.exact import product

Interpolation = Literal["nearest", "bilinear", "bicubic"]
ONE, HALF = 2**16, 2**15  # a position's whole pixels are counted in 2^-16, as in Pillow's affine_fixed


class Affine(NamedTuple):
    """Target pixel (x, y) -> its source (a x + b y + c, d x + e y + f) in fixed point; pixel 0 covers 0 to 1.

    Both parts (..., 2, 3) int32, [[a, b, c], [d, e, f]]: a coefficient is coarse / 2^16 + fine / 2^32.
    """

    coarse: Array
    fine: Array


def fixed(matrix: np.ndarray, *, exact: bool) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (..., 2, 3) in float64 -> coarse and fine, int32.

    The coarse ones are rounded, as Pillow does before it takes the nearest pixel; where they alone have to give the
    right pixel (`exact`: a and e are 1), they are rounded down.
    """
    coarse = np.floor(matrix * ONE + (0 if exact else 0.5))
    fine = np.rint((matrix * ONE - coarse) * ONE)
    return coarse.astype(np.int32), fine.astype(np.int32)


def shift(images: Array, corner: Array, padding: int) -> Array:
    """A crop of the zero-padded image, (B, H, W, C) -> same; corner (B, 2) is its top left."""
    _, H, W, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = corner[:, :1] + jnp.arange(H), corner[:, 1:] + jnp.arange(W)
    return pick(padded, rows[:, :, None], columns[:, None, :])


def pick(images: Array, rows: Array, columns: Array) -> Array:
    """images[b, rows[b], columns[b]] for every b."""
    # Mapped, and not indexed by arange(B): so XLA knows that an image needs no other, and leaves each on its device.
    return jax.vmap(lambda image, row, column: image[row, column])(images, rows, columns)


def flip(images: Array, flips: Array) -> Array:
    """Left and right exchanged where flips (B,) is true: (B, H, W, C) -> same."""
    return jnp.where(flips[:, None, None, None], images[:, :, ::-1], images)


def warp(images: Array, affine: Affine, fill: tuple[int, ...], interpolation: Interpolation) -> Array:
    """Every image by its own affine map: uint8 (B, H, W, C) -> same; affine's parts are (B, 2, 3).

    Pixels whose source is outside the image get fill, a number for each channel. Reference: affine_fixed,
    bilinear_filter and bicubic_filter of Pillow's src/libImaging/Geometry.c.
    """
    _, H, W, _ = images.shape
    x, y = (_position(affine, axis, H, W, interpolation) for axis in (0, 1))
    # not Pillow's on the very edge (1.5 - 0.12 * 12.5), where its float64 rounds to inside or outside by chance
    inside = (x[0] >= 0) & (x[0] < W * ONE) & (y[0] >= 0) & (y[0] < H * ONE)
    if interpolation == "nearest":
        warped = _pixels(images, y[0] >> 16, x[0] >> 16)
    else:
        interpolate = _bilinear if interpolation == "bilinear" else _bicubic
        warped = interpolate(images, *_split(y), *_split(x)).astype(jnp.uint8)
    return jnp.where(inside[..., None], warped, jnp.array(fill, jnp.uint8))


def _position(affine: Affine, axis: int, H: int, W: int, interpolation: Interpolation) -> tuple[Array, Array]:
    """Each target pixel's source along x (axis 0) or y (1): (B, H, W) in 2^-16, and what is left in 2^-32."""
    columns, rows = jnp.arange(W, dtype=jnp.int32), jnp.arange(H, dtype=jnp.int32)[:, None]
    coarse, fine = (
        part[:, axis, 0, None, None] * columns + part[:, axis, 1, None, None] * rows + part[:, axis, 2, None, None]
        for part in affine
    )
    return (coarse, fine) if interpolation == "nearest" else (coarse + (fine >> 16), fine & (ONE - 1))


def _split(position: tuple[Array, Array]) -> tuple[Array, Array]:
    """The pixel whose centre is at or before a position, and how far after: int32, and float32 in 0..1."""
    coarse, fine = position[0] - HALF, position[1]
    fraction = ((coarse & (ONE - 1)) << 8) | (fine >> 8)
    return coarse >> 16, fraction.astype(jnp.float32) * 2.0**-24


def _pixels(images: Array, rows: Array, columns: Array) -> Array:
    """images[b, rows, columns], the border continued: (B, H, W, C)."""
    _, H, W, _ = images.shape
    return pick(images, jnp.clip(rows, 0, H - 1), jnp.clip(columns, 0, W - 1))


def _bilinear(images: Array, row: Array, dy: Array, column: Array, dx: Array) -> Array:
    """Between two pixels each way: float32."""

    def line(offset: int) -> Array:
        left, right = (_pixels(images, row + offset, column + i).astype(jnp.float32) for i in (0, 1))
        return left + product(right - left, dx[..., None])

    upper, lower = line(0), line(1)
    return upper + product(lower - upper, dy[..., None])


def _bicubic(images: Array, row: Array, dy: Array, column: Array, dx: Array) -> Array:
    """Through four pixels each way, cut to 0..255: float32."""

    def line(offset: int) -> Array:
        taps = [_pixels(images, row + offset, column + i).astype(jnp.float32) for i in range(-1, 3)]
        return _cubic(taps, dx[..., None])

    return jnp.clip(_cubic([line(offset) for offset in range(-1, 3)], dy[..., None]), 0, 255)


def _cubic(values: list[Array], d: Array) -> Array:
    """Pillow's BICUBIC: Keys's kernel with a = -1, between the second value (d = 0) and the third (d = 1)."""
    v1, v2, v3, v4 = values
    p2, p3, p4 = v3 - v1, 2 * (v1 - v2) + v3 - v4, v2 - v1 - v3 + v4
    return v2 + product(d, p2 + product(d, p3 + product(d, p4)))
