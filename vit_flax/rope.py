"""Rotary position embeddings (Su et al. 2021, RoFormer) over two axes, as DINOv3 and EVA-02 have them."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from vit_convert.config import ViTConfig
from vit_convert.positions import rope_table

Rope = tuple[Array, Array]


def make_rope(config: ViTConfig, grid: tuple[int, int], like: Array) -> Rope | None:
    """Sine and cosine, each (T, 1, D/H), for tokens of `like`'s dtype; None where positions don't rotate.

    At least float32, as timm has them for images of any size: only the rotated channels are rounded to bfloat16.
    """
    if config.rope == "none":
        return None
    dtype = jnp.promote_types(like.dtype, jnp.float32)
    sin, cos = (jnp.asarray(x, dtype=dtype)[:, None] for x in rope_table(config, grid))
    return sin, cos


def rotate(kind: str, x: Array, rope: Rope) -> Array:
    """Each pair (a, b) of x's channels becomes (a cos - b sin, b cos + a sin): (B, T, H, D/H) -> same.

    Computed in the dtype of `rope`, rounded once. `kind` is the config's `rope`, which says where the pairs are.
    """
    sin, cos = rope
    wide = x.astype(sin.dtype)
    return (wide * cos + QUARTER_TURNS[kind](wide) * sin).astype(x.dtype)


def turn_halves(x: Array) -> Array:
    """(a, b) -> (-b, a) for pairs half a head apart: (..., D/H) -> same."""
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([-b, a], axis=-1)


def turn_neighbours(x: Array) -> Array:
    """(a, b) -> (-b, a) for pairs of neighbours: (..., D/H) -> same."""
    return jnp.stack([-x[..., 1::2], x[..., ::2]], axis=-1).reshape(x.shape)


QUARTER_TURNS: dict[str, Callable[[Array], Array]] = {"dinov3": turn_halves, "eva02": turn_neighbours}
