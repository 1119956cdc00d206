"""Attention that begins as trained attention looks: mimetic initialisation (Trockman & Kolter 2023, section 4).

The products of query and key weights of a head begin near the identity, those of value and projection near minus the
identity. Shapes: D the width, H heads of width D/H.
"""

import torch
from torch import Tensor

from vit_convert.positions import sincos2d
from vit_torch.vit import ViT

# how much noise and how much identity (section 4.2)
QUERY_KEY = 0.7, 0.7
VALUE_PROJ = 0.4, -0.4


@torch.no_grad()
def mimetic(model: ViT, generator: torch.Generator) -> None:
    """Draws every block's attention anew; learned positions of patches become sines and cosines with the spread that
    the table has."""
    config = model.config
    if config.pos_embed == "learned":
        table = model.get_parameter("pos_embed")
        table[0, config.num_pos_prefix :] = waves(table, config.grid)
    for i in range(config.depth):
        qkv, proj = attention(config.dim, config.num_heads, generator)
        model.get_parameter(f"blocks.{i}.attn.qkv.weight").copy_(qkv)
        model.get_parameter(f"blocks.{i}.attn.proj.weight").copy_(proj)


def attention(dim: int, num_heads: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The weights of one block: qkv (3 D, D) and proj (D, D)."""
    heads = torch.randn((num_heads, dim, dim), generator=generator, dtype=torch.float64)
    q, k = factors(near_identity(heads, *QUERY_KEY), dim // num_heads)  # (H, D, D/H) each
    whole = torch.randn((dim, dim), generator=generator, dtype=torch.float64)
    v, proj = factors(near_identity(whole, *VALUE_PROJ), dim)
    q, k = (x.transpose(1, 2).reshape(dim, dim) for x in (q, k))  # rows are outputs, head by head
    return torch.cat([q, k, v.T]), proj


def near_identity(normal: Tensor, noise: float, identity: float) -> Tensor:
    """noise * Z + identity * I, where Z has the variance 1/D: (..., D, D) -> same."""
    dim = normal.shape[-1]
    return noise * dim**-0.5 * normal + identity * torch.eye(dim, dtype=normal.dtype)


def factors(product: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """left and right, each (..., D, rank): left @ right' is the best approximation of product (..., D, D)."""
    u, s, vt = torch.linalg.svd(product)
    root = s[..., None, :rank].sqrt()
    return u[..., :rank] * root, vt.mT[..., :rank] * root


def waves(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Sines and cosines with the spread of a table of positions: (1, T, D) -> (grid rows * columns, D)."""
    found = torch.tensor(sincos2d(grid, table.shape[-1]), dtype=table.dtype)
    return table.std(correction=0) / found.square().mean().sqrt() * found
