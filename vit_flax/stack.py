"""The blocks one after another, rematerialised or scanned. mirror: in torch they are the loop in vit.py alone."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from vit_flax.block import Block
from vit_flax.rope import Rope


def layer_rngs(key: Array | None, layer: int | Array) -> nnx.Rngs | None:
    """The randomness of one layer, for one call: no layer's draws depend on how the others are computed."""
    return None if key is None else nnx.Rngs(jax.random.fold_in(key, layer))


def run_blocks(
    blocks: Sequence[Block],
    x: Array,
    drop_path: Array | None,
    rope: Rope | None,
    key: Array | None,
    *,
    remat: bool,
    scan: bool,
) -> Array:
    """All blocks on the tokens (B, T, D), as the loop in vit.py computes them.

    remat: only what enters each block is kept for the backward pass, and its insides are computed again there (Chen
    et al. 2016). scan: one compiled block for all layers, whose parameters are stacked on the way in.
    """
    graph, _ = nnx.split(blocks[0])
    layers = [
        (nnx.split(block)[1], None if drop_path is None else drop_path[i], jnp.int32(i))
        for i, block in enumerate(blocks)
    ]

    def run(x: Array, layer: tuple[nnx.State, Array | None, Array]) -> Array:
        state, masks, i = layer
        return nnx.merge(graph, state)(x, masks, rope, rngs=layer_rngs(key, i))[0]

    one = jax.checkpoint(run, prevent_cse=not scan) if remat else run  # jax.checkpoint: a scan needs no barriers
    if not scan:
        for layer in layers:
            x = one(x, layer)
        return x
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    return jax.lax.scan(lambda x, layer: (one(x, layer), None), x, stacked)[0]
