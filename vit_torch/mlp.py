"""The feed-forward half of a block (Dosovitskiy et al. 2021, eq. 3; Shazeer 2020 for SwiGLU)."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_convert.config import ViTConfig
from vit_torch.dropout import dropout
from vit_torch.norm import make_norm


def quick_gelu(x: Tensor) -> Tensor:
    """OpenAI CLIP's approximation of GELU (openai/CLIP clip/model.py, QuickGELU)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "quick_gelu": quick_gelu,
    "silu": F.silu,
}


class Mlp(nn.Module):
    """fc1, activation (gated for swiglu), optional norm, fc2: (..., D) -> (..., D)."""

    def __init__(self, config: ViTConfig, *, dropout: float = 0.0):
        super().__init__()
        self.act = ACTIVATIONS[config.act]
        self.gated = config.mlp == "swiglu"
        self.dropout = dropout
        width = 2 * config.mlp_dim if self.gated else config.mlp_dim
        self.fc1 = nn.Linear(config.dim, width, bias=config.mlp_bias)
        self.norm = make_norm(config, config.mlp_dim) if config.mlp_norm else nn.Identity()
        self.fc2 = nn.Linear(config.mlp_dim, config.dim, bias=config.mlp_bias)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        x = self.fc1(x)
        if self.gated:
            gate, x = x.chunk(2, dim=-1)
            x = self.act(gate) * x
        else:
            x = self.act(x)
        x = self.norm(dropout(x, self.dropout, generator))
        return dropout(self.fc2(x), self.dropout, generator)
