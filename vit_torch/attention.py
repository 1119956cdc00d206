"""Multi-head self-attention (Dosovitskiy et al. 2021, appendix A)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_convert.config import ViTConfig
from vit_torch.dropout import dropout
from vit_torch.norm import make_norm
from vit_torch.rope import Rope, rotate


def fused_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The framework's own kernel: (B, T, H, D/H) and (B, S, H, D/H) twice -> (B, T, H, D/H)."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """softmax(q k' / sqrt(D/H)): (B, T, H, D/H), (B, S, H, D/H) -> (B, H, T, S)."""
    logits = torch.einsum("bthd,bshd->bhts", q, k) * q.shape[-1] ** -0.5
    return F.softmax(logits, dim=-1)


def weighted_sum(weights: Tensor, v: Tensor) -> Tensor:
    """(B, H, T, S), (B, S, H, D/H) -> (B, T, H, D/H)."""
    return torch.einsum("bhts,bshd->bthd", weights, v)


class Attention(nn.Module):
    """Softmax attention of every token over all tokens: (B, T, D) -> (B, T, D)."""

    def __init__(self, config: ViTConfig, *, dropout: float = 0.0, attn_dropout: float = 0.0, attention: str = "fused"):
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = dropout
        self.attn_dropout = attn_dropout
        self.attention = attention
        self.rope = config.rope
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=config.qkv_bias == "all")
        self.q_bias = nn.Parameter(torch.zeros(config.dim)) if config.qkv_bias == "qv" else None
        self.v_bias = nn.Parameter(torch.zeros(config.dim)) if config.qkv_bias == "qv" else None
        self.q_norm = make_norm(config, config.head_dim) if config.qk_norm else nn.Identity()
        self.k_norm = make_norm(config, config.head_dim) if config.qk_norm else nn.Identity()
        self.norm = make_norm(config, config.dim) if config.attn_norm else nn.Identity()
        self.proj = nn.Linear(config.dim, config.dim, bias=config.proj_bias)

    def forward(
        self,
        x: Tensor,
        rope: Rope | None = None,
        *,
        return_weights: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The output and, if asked for, the softmax weights (B, H, T, T): those are then computed explicitly.

        `rope` is make_rope's; queries and keys are rotated by it.
        """
        B, T, D = x.shape
        q, k, v = self.project(x)
        if rope is not None:
            q, k = rotate(self.rope, q, rope), rotate(self.rope, k, rope)
        weights = None
        dropping = generator is not None and self.attn_dropout > 0
        if self.attention == "fused" and not dropping and not return_weights:
            x = fused_attention(q, k, v)
        else:
            weights = attention_weights(q, k)
            x = weighted_sum(dropout(weights, self.attn_dropout, generator), v)
        x = self.proj(self.norm(x.reshape(B, T, D)))
        return dropout(x, self.dropout, generator), weights if return_weights else None

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) -> q, k, v, each (B, T, H, D/H). The rows of qkv are q | k | v, each (H, D/H)."""
        B, T, D = x.shape
        x = self.qkv(x)
        if self.q_bias is not None and self.v_bias is not None:
            q_bias, v_bias = self.q_bias, self.v_bias
            x = x + torch.cat([q_bias, torch.zeros_like(q_bias), v_bias])
        q, k, v = x.reshape(B, T, 3, self.num_heads, D // self.num_heads).unbind(2)
        return self.q_norm(q), self.k_norm(k), v
