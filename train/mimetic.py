"""Attention that begins as trained attention looks: mimetic initialisation (Trockman & Kolter 2023, section 4).

In trained ViTs the product of a head's query and key weights lies near the identity, so that tokens first attend
to those like them, and the product of value and projection weights near minus the identity. A start from such
products trains faster on small datasets. Shapes: D the width, H heads of width D/H.
"""

import jax
import jax.numpy as jnp
from jax import Array

from vit_convert.config import ViTConfig
from vit_convert.positions import sincos2d

Params = dict[str, Array]

# how much noise and how much identity, as the paper's section 4.2 has them
QUERY_KEY = 0.7, 0.7
VALUE_PROJ = 0.4, -0.4


def mimetic(params: Params, model: ViTConfig, key: Array) -> Params:
    """The parameters by Flax path: every block's attention drawn anew, and learned positions of the patches as
    sines and cosines with the spread that they have."""
    drawn: Params = {"pos_embed": positions(params["pos_embed"], model)} if "pos_embed" in params else {}
    keys = jax.random.split(jax.random.fold_in(key, len(params)), model.depth)  # numbers below are taken
    for i in range(model.depth):
        name, like = f"blocks.{i}.attn", params[f"blocks.{i}.attn.proj.kernel"]
        qkv, proj = attention(keys[i], model.dim, model.num_heads)
        drawn |= {f"{name}.qkv.kernel": qkv.astype(like.dtype), f"{name}.proj.kernel": proj.astype(like.dtype)}
    return params | drawn


def attention(key: Array, dim: int, num_heads: int) -> tuple[Array, Array]:
    """The kernels of one block: qkv (D, 3 D) and proj (D, D)."""
    key_qk, key_v = jax.random.split(key)
    # Head by head: jaxlib before 0.11.2 hands the matrices of a batch to the threads that wait for them, and two blocks
    # at a time then wait for ever (jaxlib/cpu/lapack_kernels.cc, ParallelBatchMap).
    products = near_identity(key_qk, (num_heads, dim, dim), *QUERY_KEY)
    q, k = jax.lax.map(lambda product: factors(product, dim // num_heads), products)  # (H, D, D/H) each
    v, proj = factors(near_identity(key_v, (dim, dim), *VALUE_PROJ), dim)
    q, k = (x.transpose(1, 0, 2).reshape(dim, dim) for x in (q, k))
    return jnp.concatenate([q, k, v], axis=1), proj.T


def positions(table: Array, model: ViTConfig) -> Array:
    """(1, T, D) -> same: rows of prefix tokens as they are."""
    waves = jnp.asarray(sincos2d(model.grid, model.dim), table.dtype)
    spread = table.std() / jnp.sqrt(jnp.mean(waves**2))
    return table.at[0, model.num_pos_prefix :].set(spread * waves)


def near_identity(key: Array, shape: tuple[int, ...], noise: float, identity: float) -> Array:
    """noise * Z + identity * I for Z with variance 1/D: (..., D, D)."""
    dim = shape[-1]
    return noise * dim**-0.5 * jax.random.normal(key, shape) + identity * jnp.eye(dim)


def factors(product: Array, rank: int) -> tuple[Array, Array]:
    """left and right, each (D, rank): left @ right' is the best approximation of product (D, D)."""
    u, s, vt = jnp.linalg.svd(product)
    root = jnp.sqrt(s[:rank])
    return u[:, :rank] * root, vt.T[:, :rank] * root
