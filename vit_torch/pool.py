"""From tokens to one feature vector an image."""

import torch
from torch import Tensor, nn

from vit_convert.config import ViTConfig
from vit_torch.attention import attention_weights, fused_attention
from vit_torch.mlp import Mlp
from vit_torch.norm import make_norm


class AttentionPool(nn.Module):
    """A learned query attends to the patches: (B, N, D) -> (B, D).

    MAP head of "Scaling Vision Transformers" (Zhai et al. 2022), as google-research/big_vision
    models/vit.py MAPHead and timm layers/attention_pool.py AttentionPoolLatent.
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        # Biases and a plain mlp, whatever the blocks have.
        config = config.replace(mlp="mlp", mlp_norm=False, mlp_bias=True)
        self.num_heads = config.num_heads
        self.latent = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.q = nn.Linear(config.dim, config.dim)
        self.k = nn.Linear(config.dim, config.dim)
        self.v = nn.Linear(config.dim, config.dim)
        self.proj = nn.Linear(config.dim, config.dim)
        self.norm = make_norm(config, config.dim)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor) -> Tensor:
        B, N, D = x.shape
        q, k = self.query_and_keys(x)
        v = self.v(x).reshape(B, N, self.num_heads, D // self.num_heads)
        x = self.proj(fused_attention(q, k, v).reshape(B, 1, D))
        x = x + self.mlp(self.norm(x))
        return x[:, 0]

    def query_and_keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The learned query (B, 1, H, D/H) and the patches' keys (B, N, H, D/H)."""
        B, N, D = x.shape
        H = self.num_heads
        q = self.q(self.latent.expand(B, 1, D)).reshape(B, 1, H, D // H)
        return q, self.k(x).reshape(B, N, H, D // H)

    def weights(self, x: Tensor) -> Tensor:
        """How much of each patch is read: (B, N, D) -> softmax weights (B, H, N)."""
        return attention_weights(*self.query_and_keys(x))[:, :, 0]


def pool_tokens(config: ViTConfig, x: Tensor, attn_pool: AttentionPool | None) -> Tensor:
    """(B, T, D) -> (B, pooled_dim), or (B, 2, D) for class_dist: one row a head."""
    patches = x[:, config.num_prefix :]
    if attn_pool is not None:
        return attn_pool(patches)
    if config.pool == "mean":
        return patches.mean(dim=1)
    if config.pool == "class_mean":
        return torch.cat([x[:, 0], patches.mean(dim=1)], dim=-1)
    return x[:, :2] if config.pool == "class_dist" else x[:, 0]
