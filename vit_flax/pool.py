"""From tokens to one feature vector an image."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from vit_convert.config import ViTConfig
from vit_flax.attention import attention_weights, fused_attention
from vit_flax.linear import Linear
from vit_flax.mlp import Mlp
from vit_flax.norm import make_norm
from vit_flax.sums import repeat


class AttentionPool(nnx.Module):
    """A learned query attends to the patches: (B, N, D) -> (B, D).

    MAP head of "Scaling Vision Transformers" (Zhai et al. 2022), as google-research/big_vision
    models/vit.py MAPHead and timm layers/attention_pool.py AttentionPoolLatent.
    """

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs, dtype: Any, param_dtype: Any):
        of: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        # Biases and a plain mlp, whatever the blocks have.
        config = config.replace(mlp="mlp", mlp_norm=False, mlp_bias=True)
        self.num_heads = config.num_heads
        self.latent = nnx.Param(jnp.zeros((1, 1, config.dim), param_dtype))
        self.q = Linear(config.dim, config.dim, **of)
        self.k = Linear(config.dim, config.dim, **of)
        self.v = Linear(config.dim, config.dim, **of)
        self.proj = Linear(config.dim, config.dim, **of)
        self.norm = make_norm(config, config.dim, **of)
        self.mlp = Mlp(config, **of)

    def __call__(self, x: Array) -> Array:
        B, N, D = x.shape
        q, k = self.query_and_keys(x)
        v = self.v(x).reshape(B, N, self.num_heads, D // self.num_heads)
        x = self.proj(fused_attention(q, k, v).reshape(B, 1, D))
        x = x + self.mlp(self.norm(x))
        return x[:, 0]

    def query_and_keys(self, x: Array) -> tuple[Array, Array]:
        """The learned query (B, 1, H, D/H) and the patches' keys (B, N, H, D/H)."""
        B, N, D = x.shape
        H = self.num_heads
        q = self.q(repeat(self.latent.astype(x.dtype), B)).reshape(B, 1, H, D // H)
        return q, self.k(x).reshape(B, N, H, D // H)

    def weights(self, x: Array) -> Array:
        """How much of each patch is read: (B, N, D) -> softmax weights (B, H, N)."""
        return attention_weights(*self.query_and_keys(x))[:, :, 0]


def pool_tokens(config: ViTConfig, x: Array, attn_pool: AttentionPool | None) -> Array:
    """(B, T, D) -> (B, pooled_dim), or (B, 2, D) for class_dist: one row a head."""
    patches = x[:, config.num_prefix :]
    if attn_pool is not None:
        return attn_pool(patches)
    if config.pool == "mean":
        return patches.mean(axis=1)
    if config.pool == "class_mean":
        return jnp.concatenate([x[:, 0], patches.mean(axis=1)], axis=-1)
    return x[:, :2] if config.pool == "class_dist" else x[:, 0]
