"""The Vision Transformer (Dosovitskiy et al. 2021, An image is worth 16x16 words) and its relatives."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vit_convert.config import ViTConfig
from vit_convert.intermediates import Keep
from vit_convert.preprocess import Preprocess
from vit_convert.run_options import check_masks, check_run_options
from vit_torch.block import Block
from vit_torch.dropout import dropout
from vit_torch.init import init_weights
from vit_torch.norm import make_norm
from vit_torch.patch_embed import PatchEmbed
from vit_torch.pool import AttentionPool, pool_tokens
from vit_torch.pos_embed import add_positions
from vit_torch.pretrained import Pretrained
from vit_torch.rope import make_rope


class ViT(Pretrained):
    """A Vision Transformer: images (B, C, H, W) -> logits (B, K), or features (B, pooled_dim) without a head.

    Args:
        config: the function to compute.
        dropout: rate after every linear layer but qkv and the heads, and after the positions
            (Dosovitskiy et al. 2021, appendix B.1); active in calls that are given randomness.
        attn_dropout: rate on the softmax weights, likewise.
        attention: "fused" (torch's kernel; in Flax, what XLA makes of "explicit") or "explicit".
        dynamic_size: take images of any size that the patches divide; the position table is
            resized inside the model by `config.pos_resize`.
        generator: where the initial values come from; torch's global one if None (which torch's own
            layers also draw from as they are made, to no effect).
    """

    def __init__(
        self,
        config: ViTConfig,
        *,
        dropout: float = 0.0,
        attn_dropout: float = 0.0,
        attention: str = "fused",
        dynamic_size: bool = False,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_run_options(dropout, attn_dropout, attention)
        self.config = config
        self.dropout = dropout
        self.preprocess: Preprocess | None = None
        self.labels: tuple[str, ...] | None = None
        dim = config.dim
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if config.class_token else None
        self.dist_token = nn.Parameter(torch.zeros(1, 1, dim)) if config.dist_token else None
        self.reg_token = nn.Parameter(torch.zeros(1, config.num_registers, dim)) if config.num_registers else None
        rows = config.num_pos_prefix + config.num_patches
        self.pos_embed = nn.Parameter(torch.zeros(1, rows, dim)) if config.pos_embed == "learned" else None
        self.patch_embed = PatchEmbed(config, dynamic_size=dynamic_size)
        self.norm_pre = make_norm(config, dim) if config.pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(
            [
                Block(config, dropout=dropout, attn_dropout=attn_dropout, attention=attention)
                for _ in range(config.depth)
            ]
        )
        self.norm = make_norm(config, dim) if config.final_norm == "tokens" else nn.Identity()
        self.attn_pool = AttentionPool(config) if config.pool == "map" else None
        self.fc_norm = make_norm(config, dim) if config.final_norm == "pooled" else nn.Identity()
        width, classes = config.pre_logits or config.pooled_dim, config.num_classes
        self.pre_logits = nn.Linear(config.pooled_dim, width) if config.pre_logits else None
        self.head = nn.Linear(width, classes, bias=config.head_bias) if classes else None
        two_heads = classes and config.pool == "class_dist"
        self.head_dist = nn.Linear(width, classes, bias=config.head_bias) if two_heads else None
        init_weights(self, generator)

    def forward(
        self,
        images: Tensor,
        intermediates: Sequence[str] = (),
        *,
        drop_path: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Any:
        """Logits (B, K), or pooled features without a head; with `intermediates`, (output, dict).

        Args:
            images: (B, C, H, W), floating point, preprocessed.
            intermediates: names of vit_convert.intermediates.intermediate_names.
            drop_path: (depth, 2, B) factors of every block's two branches: 0 or 1 / keep.
            generator: randomness for dropout; without it there is none.

        Raises:
            ValueError: images of another shape or dtype, or unknown intermediates.
        """
        keep = Keep(self.config, intermediates)
        if drop_path is not None:
            check_masks(tuple(drop_path.shape), self.config.depth, images.shape[0])
        x, grid = self.embed(images, generator)
        x, rope = keep("embeddings", x), make_rope(self.config, grid, like=x)
        for i, block in enumerate(self.blocks):
            name, masks = f"blocks.{i}", None if drop_path is None else drop_path[i]
            x, weights = block(x, masks, rope, return_weights=keep.wants(f"{name}.attn.weights"), generator=generator)
            keep(f"{name}.attn.weights", weights)
            x = keep(name, x)
        x = keep("norm", self.norm(x))
        if self.attn_pool is not None and keep.wants("attn_pool.weights"):
            keep("attn_pool.weights", self.attn_pool.weights(x[:, self.config.num_prefix :]))
        x = keep("pooled", self.fc_norm(pool_tokens(self.config, x, self.attn_pool)))
        return keep.result(keep("logits", self.classify(x)))

    def embed(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, tuple[int, int]]:
        """Images to the tokens [class, distillation, registers, patches] that enter the first block, and their grid."""
        patches, grid = self.patch_embed(images)
        tokens = [t for t in (self.cls_token, self.dist_token, self.reg_token) if t is not None]
        prefix = torch.cat([*tokens, patches.new_zeros(1, 0, self.config.dim)], dim=1).expand(patches.shape[0], -1, -1)
        x = add_positions(self.config, self.pos_embed, prefix, patches, grid)
        return self.norm_pre(dropout(x, self.dropout, generator)), grid

    def classify(self, x: Tensor) -> Tensor:
        """Pooled features to logits; without a head, to the features that the model returns."""
        if self.head_dist is not None and self.head is not None:
            return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2
        if self.config.pool == "class_dist":
            return x.mean(dim=1)
        if self.pre_logits is not None:
            x = torch.tanh(self.pre_logits(x))
        return x if self.head is None else self.head(x)
