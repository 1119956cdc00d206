"""The pre-norm transformer block (Dosovitskiy et al. 2021, eq. 2 and 3)."""

from typing import Any

import jax
from flax import nnx
from jax import Array

from vit_convert.config import ViTConfig
from vit_flax.attention import Attention
from vit_flax.drop_path import drop_path
from vit_flax.layer_scale import LayerScale
from vit_flax.mlp import Mlp
from vit_flax.norm import make_norm
from vit_flax.rope import Rope


class Block(nnx.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x)): (B, T, D) -> (B, T, D)."""

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
        self.norm1 = make_norm(config, config.dim, **of)
        self.attn = Attention(config, dropout=dropout, attn_dropout=attn_dropout, attention=attention, **of)
        self.ls1 = LayerScale(config.dim, param_dtype=param_dtype) if config.layer_scale else jax.nn.identity
        self.norm2 = make_norm(config, config.dim, **of)
        self.mlp = Mlp(config, dropout=dropout, **of)
        self.ls2 = LayerScale(config.dim, param_dtype=param_dtype) if config.layer_scale else jax.nn.identity

    def __call__(
        self,
        x: Array,
        masks: Array | None = None,
        rope: Rope | None = None,
        *,
        return_weights: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> tuple[Array, Array | None]:
        """The tokens after this block and, if asked for, its softmax weights (B, H, T, T)."""
        attn_mask, mlp_mask = (None, None) if masks is None else masks
        y, weights = self.attn(self.norm1(x), rope, return_weights=return_weights, rngs=rngs)
        x = x + drop_path(self.ls1(y), attn_mask)
        x = x + drop_path(self.ls2(self.mlp(self.norm2(x), rngs)), mlp_mask)
        return x, weights
