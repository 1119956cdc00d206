"""The Vision Transformer (Dosovitskiy et al. 2021, An image is worth 16x16 words) and its relatives."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from vit_convert.config import ViTConfig
from vit_convert.intermediates import Keep
from vit_convert.preprocess import Preprocess
from vit_convert.run_options import check_masks, check_run_options
from vit_flax.attention import check_cudnn
from vit_flax.block import Block
from vit_flax.dropout import dropout
from vit_flax.init import init_weights
from vit_flax.linear import Linear
from vit_flax.norm import make_norm
from vit_flax.patch_embed import PatchEmbed
from vit_flax.pool import AttentionPool, pool_tokens
from vit_flax.pos_embed import add_positions
from vit_flax.pretrained import Pretrained, check_dtype
from vit_flax.rope import make_rope
from vit_flax.stack import layer_rngs, run_blocks
from vit_flax.sums import repeat


class ViT(Pretrained):
    """A Vision Transformer: images (B, H, W, C) -> logits (B, K), or features (B, pooled_dim) without a head.

    Args:
        config: the function to compute.
        dropout: rate after every linear layer but qkv and the heads, and after the positions
            (Dosovitskiy et al. 2021, appendix B.1); active in calls that are given randomness.
        attn_dropout: rate on the softmax weights, likewise.
        attention: "fused" (torch's kernel; in Flax, what XLA makes of "explicit") or "explicit"; or "cudnn",
            cuDNN's kernel, in bfloat16 or float16 on an NVIDIA GPU.
        dynamic_size: take images of any size that the patches divide; the position table is
            resized inside the model by `config.pos_resize`.
        remat: compute each block's insides again in the backward pass instead of keeping them.
        scan: one compiled block for all layers. The parameters are the same, and so is the function: calls that ask
            for intermediates run neither.
        rngs: where the initial values come from; its `params` stream.
        dtype: of the computation; that of the parameters if None.
        param_dtype: of the parameters.
    """

    def __init__(
        self,
        config: ViTConfig,
        *,
        dropout: float = 0.0,
        attn_dropout: float = 0.0,
        attention: str = "fused",
        dynamic_size: bool = False,
        remat: bool = False,
        scan: bool = False,
        rngs: nnx.Rngs,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
    ):
        check_run_options(dropout, attn_dropout, attention, ("fused", "explicit", "cudnn"))
        dtype = dtype or param_dtype
        check_dtype(dtype)
        check_dtype(param_dtype)
        if attention == "cudnn":
            check_cudnn(config, attn_dropout, dtype)
        of: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.config = config
        self.dropout = dropout
        self.remat = remat  # mirror: how the blocks are run, which torch doesn't choose here
        self.scan = scan
        self.preprocess: Preprocess | None = None
        self.labels: tuple[str, ...] | None = None
        dim = config.dim
        self.cls_token = nnx.Param(jnp.zeros((1, 1, dim), param_dtype)) if config.class_token else None
        self.dist_token = nnx.Param(jnp.zeros((1, 1, dim), param_dtype)) if config.dist_token else None
        registers = (1, config.num_registers, dim)
        self.reg_token = nnx.Param(jnp.zeros(registers, param_dtype)) if config.num_registers else None
        table = (1, config.num_pos_prefix + config.num_patches, dim)
        self.pos_embed = nnx.Param(jnp.zeros(table, param_dtype)) if config.pos_embed == "learned" else None
        self.patch_embed = PatchEmbed(config, dynamic_size=dynamic_size, **of)
        self.norm_pre = make_norm(config, dim, **of) if config.pre_norm else jax.nn.identity
        self.blocks = nnx.List(
            [
                Block(config, dropout=dropout, attn_dropout=attn_dropout, attention=attention, **of)
                for _ in range(config.depth)
            ]
        )
        self.norm = make_norm(config, dim, **of) if config.final_norm == "tokens" else jax.nn.identity
        self.attn_pool = AttentionPool(config, **of) if config.pool == "map" else None
        self.fc_norm = make_norm(config, dim, **of) if config.final_norm == "pooled" else jax.nn.identity
        width, classes = config.pre_logits or config.pooled_dim, config.num_classes
        self.pre_logits = Linear(config.pooled_dim, width, **of) if config.pre_logits else None
        self.head = Linear(width, classes, use_bias=config.head_bias, **of) if classes else None
        two_heads = classes and config.pool == "class_dist"
        self.head_dist = Linear(width, classes, use_bias=config.head_bias, **of) if two_heads else None
        init_weights(self, rngs)

    def __call__(
        self,
        images: Array,
        intermediates: Sequence[str] = (),
        *,
        drop_path: Array | None = None,
        key: Array | None = None,
    ) -> Any:
        """Logits (B, K), or pooled features without a head; with `intermediates`, (output, dict).

        Args:
            images: (B, H, W, C), floating point, preprocessed.
            intermediates: names of vit_convert.intermediates.intermediate_names.
            drop_path: (depth, 2, B) factors of every block's two branches: 0 or 1 / keep.
            key: randomness for dropout; without it there is none.

        Raises:
            ValueError: images of another shape or dtype, or unknown intermediates.
        """
        keep = Keep(self.config, intermediates)
        if drop_path is not None:
            check_masks(tuple(drop_path.shape), self.config.depth, images.shape[0])
        x, grid = self.embed(images, layer_rngs(key, self.config.depth))  # mirror: they live for this call alone
        x, rope = keep("embeddings", x), make_rope(self.config, grid, like=x)
        unrolled = bool(intermediates) or not (self.remat or self.scan)
        if not unrolled:
            x = run_blocks(self.blocks, x, drop_path, rope, key, remat=self.remat, scan=self.scan)
        for i, block in enumerate(self.blocks if unrolled else ()):
            name, masks = f"blocks.{i}", None if drop_path is None else drop_path[i]
            rngs, wanted = layer_rngs(key, i), keep.wants(f"{name}.attn.weights")
            x, weights = block(x, masks, rope, return_weights=wanted, rngs=rngs)
            keep(f"{name}.attn.weights", weights)
            x = keep(name, x)
        x = keep("norm", self.norm(x))
        if self.attn_pool is not None and keep.wants("attn_pool.weights"):
            keep("attn_pool.weights", self.attn_pool.weights(x[:, self.config.num_prefix :]))
        x = keep("pooled", self.fc_norm(pool_tokens(self.config, x, self.attn_pool)))
        return keep.result(keep("logits", self.classify(x)))

    def embed(self, images: Array, rngs: nnx.Rngs | None = None) -> tuple[Array, tuple[int, int]]:
        """Images to the tokens [class, distillation, registers, patches] that enter the first block, and their grid."""
        patches, grid = self.patch_embed(images)
        # mirror: parameters keep param_dtype, torch's have the compute dtype already
        tokens = [t.astype(patches.dtype) for t in (self.cls_token, self.dist_token, self.reg_token) if t is not None]
        table = None if self.pos_embed is None else self.pos_embed.astype(patches.dtype)
        prefix = jnp.concatenate([*tokens, jnp.zeros((1, 0, self.config.dim), patches.dtype)], axis=1)
        prefix = repeat(prefix, patches.shape[0])
        x = add_positions(self.config, table, prefix, patches, grid)
        return self.norm_pre(dropout(x, self.dropout, rngs)), grid

    def classify(self, x: Array) -> Array:
        """Pooled features to logits; without a head, to the features that the model returns."""
        if self.head_dist is not None and self.head is not None:
            return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2
        if self.config.pool == "class_dist":
            return x.mean(axis=1)
        if self.pre_logits is not None:
            x = jnp.tanh(self.pre_logits(x))
        return x if self.head is None else self.head(x)
