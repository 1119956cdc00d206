"""Position embeddings: learned (Dosovitskiy et al. 2021, eq. 1), fixed 2D sine-cosine, or none."""

import jax.numpy as jnp
from jax import Array

from vit_convert.config import ViTConfig
from vit_convert.positions import resize_matrices, sincos2d
from vit_flax.sums import add


def add_positions(
    config: ViTConfig, table: Array | None, prefix: Array, patches: Array, grid: tuple[int, int]
) -> Array:
    """The token sequence: prefix (B, P, D) and patches (B, N, D) -> (B, P + N, D).

    The table's first `num_pos_prefix` rows belong to the first prefix tokens, the rest to the
    patches: adding before or after the prefix is put in front is one and the same.
    """
    if config.pos_embed == "sincos2d":
        patches = patches + jnp.asarray(sincos2d(grid, config.dim), dtype=patches.dtype)
    elif table is not None:
        rows = config.num_pos_prefix
        patches = add(patches, resize_positions(config, table[:, rows:], grid))
        prefix = jnp.concatenate([add(prefix[:, :rows], table[:, :rows]), prefix[:, rows:]], axis=1)
    return jnp.concatenate([prefix, patches], axis=1)


def resize_positions(config: ViTConfig, table: Array, grid: tuple[int, int]) -> Array:
    """The patches' rows for another grid: (1, rows * columns, D) -> (1, N, D), by `config.pos_resize`."""
    matrices = resize_matrices(config.grid, grid, config.pos_resize)
    if matrices is None:
        return table
    rows, columns = (jnp.asarray(m, dtype=table.dtype) for m in matrices)
    table = table.reshape(*config.grid, config.dim)
    return jnp.einsum("ai,bj,ijd->abd", rows, columns, table).reshape(1, -1, config.dim)
