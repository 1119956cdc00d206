"""Layer scale (Touvron et al. 2021, Going deeper with image transformers, eq. 4)."""

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """A learned factor per channel: (..., D) -> (..., D)."""

    def __init__(self, dim: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma
