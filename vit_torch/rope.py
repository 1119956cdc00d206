"""Rotary position embeddings (Su et al. 2021, RoFormer) over two axes, as DINOv3 and EVA-02 have them."""

from collections.abc import Callable

import torch
from torch import Tensor

from vit_convert.config import ViTConfig
from vit_convert.positions import rope_table
from vit_torch import symbolic

Rope = tuple[Tensor, Tensor]


def make_rope(config: ViTConfig, grid: tuple[int, int], like: Tensor) -> Rope | None:
    """Sine and cosine, each (T, 1, D/H), for tokens of `like`'s dtype; None where positions don't rotate.

    At least float32, as timm has them for images of any size: only the rotated channels are rounded to bfloat16.
    """
    if config.rope == "none":
        return None
    dtype = torch.promote_types(like.dtype, torch.float32)
    if symbolic.is_symbolic(grid):
        sin, cos = (x.to(dtype)[:, None] for x in symbolic.rope_table(config, grid, like))
        return sin, cos
    sin, cos = (torch.tensor(x, dtype=dtype, device=like.device)[:, None] for x in rope_table(config, grid))
    return sin, cos


def rotate(kind: str, x: Tensor, rope: Rope) -> Tensor:
    """Each pair (a, b) of x's channels becomes (a cos - b sin, b cos + a sin): (B, T, H, D/H) -> same.

    Computed in the dtype of `rope`, rounded once. `kind` is the config's `rope`, which says where the pairs are.
    """
    sin, cos = rope
    wide = x.to(sin.dtype)
    return (wide * cos + QUARTER_TURNS[kind](wide) * sin).to(x.dtype)


def turn_halves(x: Tensor) -> Tensor:
    """(a, b) -> (-b, a) for pairs half a head apart: (..., D/H) -> same."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([-b, a], dim=-1)


def turn_neighbours(x: Tensor) -> Tensor:
    """(a, b) -> (-b, a) for pairs of neighbours: (..., D/H) -> same."""
    return torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).reshape(x.shape)


QUARTER_TURNS: dict[str, Callable[[Tensor], Tensor]] = {"dinov3": turn_halves, "eva02": turn_neighbours}
