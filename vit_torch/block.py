"""The pre-norm transformer block (Dosovitskiy et al. 2021, eq. 2 and 3)."""

import torch
from torch import Tensor, nn

from vit_convert.config import ViTConfig
from vit_torch.attention import Attention
from vit_torch.drop_path import drop_path
from vit_torch.layer_scale import LayerScale
from vit_torch.mlp import Mlp
from vit_torch.norm import make_norm
from vit_torch.rope import Rope


class Block(nn.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x)): (B, T, D) -> (B, T, D)."""

    def __init__(self, config: ViTConfig, *, dropout: float = 0.0, attn_dropout: float = 0.0, attention: str = "fused"):
        super().__init__()
        self.norm1 = make_norm(config, config.dim)
        self.attn = Attention(config, dropout=dropout, attn_dropout=attn_dropout, attention=attention)
        self.ls1 = LayerScale(config.dim) if config.layer_scale else nn.Identity()
        self.norm2 = make_norm(config, config.dim)
        self.mlp = Mlp(config, dropout=dropout)
        self.ls2 = LayerScale(config.dim) if config.layer_scale else nn.Identity()

    def forward(
        self,
        x: Tensor,
        masks: Tensor | None = None,
        rope: Rope | None = None,
        *,
        return_weights: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The tokens after this block and, if asked for, its softmax weights (B, H, T, T)."""
        attn_mask, mlp_mask = (None, None) if masks is None else masks
        y, weights = self.attn(self.norm1(x), rope, return_weights=return_weights, generator=generator)
        x = x + drop_path(self.ls1(y), attn_mask)
        x = x + drop_path(self.ls2(self.mlp(self.norm2(x), generator)), mlp_mask)
        return x, weights
