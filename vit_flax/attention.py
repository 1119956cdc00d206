"""Multi-head self-attention (Dosovitskiy et al. 2021, appendix A)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from vit_convert.config import ViTConfig
from vit_flax.dropout import dropout
from vit_flax.linear import Linear
from vit_flax.norm import make_norm
from vit_flax.rope import Rope, rotate
from vit_flax.sums import add


def fused_attention(q: Array, k: Array, v: Array) -> Array:
    """The framework's own kernel: (B, T, H, D/H) and (B, S, H, D/H) twice -> (B, T, H, D/H)."""
    # mirror: written out, for XLA to fuse; jax.nn.dot_product_attention takes even a float64 softmax in float32.
    return weighted_sum(attention_weights(q, k), v)


def cudnn_attention(q: Array, k: Array, v: Array) -> Array:
    """The same by cuDNN's flash attention. mirror: torch's own kernel may choose it too."""
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")


FUSED: dict[str, Callable[[Array, Array, Array], Array]] = {"fused": fused_attention, "cudnn": cudnn_attention}


def check_cudnn(config: ViTConfig, attn_dropout: float, dtype: Any) -> None:
    """Raises ValueError for what cuDNN's kernel doesn't compute (jax/_src/cudnn/fused_attention_stablehlo.py)."""
    if jnp.dtype(dtype).name not in ("bfloat16", "float16"):
        raise ValueError(f"attention 'cudnn' computes in bfloat16 or float16, got {jnp.dtype(dtype).name}")
    if attn_dropout > 0:
        raise ValueError(f"attention 'cudnn' has no dropout of our drawing, got attn_dropout {attn_dropout}")
    if config.head_dim % 8 or config.head_dim > 256:
        raise ValueError(f"attention 'cudnn' takes heads of 8, 16, ... 256 channels, got {config.head_dim}")


def attention_weights(q: Array, k: Array) -> Array:
    """softmax(q k' / sqrt(D/H)): (B, T, H, D/H), (B, S, H, D/H) -> (B, H, T, S)."""
    # mirror: torch's kernel scales, and takes the softmax of, bfloat16's logits in float32 inside; JAX's would not.
    wide = jnp.promote_types(q.dtype, jnp.float32)
    logits = jnp.einsum("bthd,bshd->bhts", q, k, preferred_element_type=wide) * q.shape[-1] ** -0.5
    return jax.nn.softmax(logits, axis=-1).astype(q.dtype)


def weighted_sum(weights: Array, v: Array) -> Array:
    """(B, H, T, S), (B, S, H, D/H) -> (B, T, H, D/H)."""
    return jnp.einsum("bhts,bshd->bthd", weights, v)


class Attention(nnx.Module):
    """Softmax attention of every token over all tokens: (B, T, D) -> (B, T, D)."""

    def __init__(
        self,
        config: ViTConfig,
        *,
        dropout: float = 0.0,
        attn_dropout: float = 0.0,
        attention: str = "fused",
        rngs: nnx.Rngs,
        dtype: Any,
        param_dtype: Any,
    ):
        of: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.num_heads = config.num_heads
        self.dropout = dropout
        self.attn_dropout = attn_dropout
        self.attention = attention
        self.rope = config.rope
        self.qkv = Linear(config.dim, 3 * config.dim, use_bias=config.qkv_bias == "all", **of)
        self.q_bias = nnx.Param(jnp.zeros(config.dim, param_dtype)) if config.qkv_bias == "qv" else None
        self.v_bias = nnx.Param(jnp.zeros(config.dim, param_dtype)) if config.qkv_bias == "qv" else None
        self.q_norm = make_norm(config, config.head_dim, **of) if config.qk_norm else jax.nn.identity
        self.k_norm = make_norm(config, config.head_dim, **of) if config.qk_norm else jax.nn.identity
        self.norm = make_norm(config, config.dim, **of) if config.attn_norm else jax.nn.identity
        self.proj = Linear(config.dim, config.dim, use_bias=config.proj_bias, **of)

    def __call__(
        self, x: Array, rope: Rope | None = None, *, return_weights: bool = False, rngs: nnx.Rngs | None = None
    ) -> tuple[Array, Array | None]:
        """The output and, if asked for, the softmax weights (B, H, T, T): those are then computed explicitly.

        `rope` is make_rope's; queries and keys are rotated by it.
        """
        B, T, D = x.shape
        q, k, v = self.project(x)
        if rope is not None:
            q, k = rotate(self.rope, q, rope), rotate(self.rope, k, rope)
        weights = None
        dropping = rngs is not None and self.attn_dropout > 0
        if self.attention in FUSED and not dropping and not return_weights:
            x = FUSED[self.attention](q, k, v)
        else:
            weights = attention_weights(q, k)
            x = weighted_sum(dropout(weights, self.attn_dropout, rngs), v)
        x = self.proj(self.norm(x.reshape(B, T, D)))
        return dropout(x, self.dropout, rngs), weights if return_weights else None

    def project(self, x: Array) -> tuple[Array, Array, Array]:
        """(B, T, D) -> q, k, v, each (B, T, H, D/H). The columns of qkv are q | k | v, each (H, D/H)."""
        B, T, D = x.shape
        x = self.qkv(x)
        if self.q_bias is not None and self.v_bias is not None:
            q_bias, v_bias = self.q_bias.get_value(), self.v_bias.get_value()
            x = add(x, jnp.concatenate([q_bias, jnp.zeros_like(q_bias), v_bias]))
        q, k, v = jnp.unstack(x.reshape(B, T, 3, self.num_heads, D // self.num_heads), axis=2)
        return self.q_norm(q), self.k_norm(k), v
