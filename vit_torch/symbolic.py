"""Positions for a grid whose size is a symbol, as in a program that torch.export makes for images of any size.

What vit_convert/positions.py computes in NumPy before the program runs, as tensors inside the program: the same
formulas, in float32 (few runtimes have more), so equal to its rounding and not to float64's.
"""

from typing import Any

import torch
from torch import Tensor

from vit_convert.config import ViTConfig
from vit_convert.positions import CUBIC_A, rope_periods

Grid = tuple[Any, Any]  # of int or torch.SymInt
REACH = 3  # samples beyond the border that a cubic kernel of width 1 reads: 2, and one for rounding


def is_symbolic(grid: Grid) -> bool:
    """Whether a size isn't known before the program runs."""
    return any(isinstance(n, torch.SymInt) for n in grid)


def resize_matrices(grid_in: tuple[int, int], grid_out: Grid, rule: str, like: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix per axis, as vit_convert.positions.resize_matrices has them; the identity for the table's own grid."""
    sizes = [number(n, like) for n in grid_out]
    own = (sizes[0] == grid_in[0]) & (sizes[1] == grid_in[1])
    rows, columns = (
        torch.where(own, identity(n_in, n_out, like), resize_matrix(n_in, n_out, size, rule, like))
        for n_in, n_out, size in zip(grid_in, grid_out, sizes, strict=True)
    )
    return rows, columns


def identity(n_in: int, n_out: Any, like: Tensor) -> Tensor:
    """(n_out, n_in): ones on the diagonal."""
    return (steps(n_out, like)[:, None] == steps(n_in, like)).float()


def resize_matrix(n_in: int, n_out: Any, size: Tensor, rule: str, like: Tensor) -> Tensor:
    """(n_out, n_in) float32, as vit_convert.positions.resize_matrix; `size` is n_out as a tensor."""
    kernel, _, variant = rule.partition("_")
    if variant == "corners":
        centres = steps(n_out, like) * ((n_in - 1) / (size - 1).clamp(min=1))
        scale = torch.ones_like(size)
    else:
        scale = n_in / (size + (0.1 if variant == "offset" else 0.0))
        centres = (steps(n_out, like) + 0.5) * scale - 0.5
    antialias = variant == "antialias"
    stretch = scale.clamp(min=1) if antialias else torch.ones_like(scale)
    reach = 0 if antialias else REACH
    taps = steps(n_in + 2 * reach, like) - reach
    weights = keys((taps - centres[:, None]) / stretch, kernel, CUBIC_A[antialias])
    if antialias:  # taps beyond the border are left out, and the rest sums to one
        return weights / weights.sum(1, keepdim=True)
    first, inside, last = weights.split([reach + 1, n_in - 2, reach + 1], 1) if n_in > 1 else (weights, None, None)
    if inside is None or last is None:
        return first.sum(1, keepdim=True)
    return torch.cat([first.sum(1, keepdim=True), inside, last.sum(1, keepdim=True)], 1)  # they read the border sample


def keys(t: Tensor, kernel: str, a: float) -> Tensor:
    """Triangle, or Keys's cubic convolution (1981, eq. 15) with parameter `a`."""
    t = t.abs()
    if kernel == "bilinear":
        return (1 - t).clamp(min=0)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return torch.where(t <= 1, near, torch.where(t < 2, far, torch.zeros_like(t)))


def sincos2d(grid: Grid, dim: int, like: Tensor) -> Tensor:
    """(rows * columns, dim) float32, as vit_convert.positions.sincos2d."""
    quarter = dim // 4
    omega = 10_000.0 ** -(steps(quarter, like) / (quarter - 1))
    y, x = (steps(n, like)[:, None] * omega for n in grid)
    rows, columns = grid
    y, x = y[:, None].expand(rows, columns, quarter), x[None].expand(rows, columns, quarter)
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], -1).reshape(-1, dim)


def rope_table(config: ViTConfig, grid: Grid, like: Tensor) -> tuple[Tensor, Tensor]:
    """Sine and cosine, each (num_prefix + rows * columns, head_dim) float32, as vit_convert.positions.rope_table."""
    periods = torch.tensor(rope_periods(config), dtype=torch.float32, device=like.device)
    y, x = (rope_coordinates(config, n, like)[:, None] / periods for n in grid)
    rows, columns = grid
    quarter = len(periods)
    parts = [y[:, None].expand(rows, columns, quarter), x[None].expand(rows, columns, quarter)]
    angles = torch.cat(parts, -1).reshape(-1, 2 * quarter)
    angles = angles.repeat_interleave(2, 1) if config.rope == "eva02" else torch.cat([angles, angles], 1)
    angles = torch.cat([angles.new_zeros(config.num_prefix, config.head_dim), angles])
    return angles.sin(), angles.cos()


def rope_coordinates(config: ViTConfig, n: Any, like: Tensor) -> Tensor:
    """Where n patches of one axis lie: (n,)."""
    if config.rope == "eva02":
        assert config.rope_ref_grid is not None
        return steps(n, like) / number(n, like) * config.rope_ref_grid
    return 2 * torch.pi * (2 * (steps(n, like) + 0.5) / number(n, like) - 1)


def steps(n: Any, like: Tensor) -> Tensor:
    """0, 1, ..., n - 1."""
    return torch.arange(n, dtype=torch.float32, device=like.device)


def number(n: Any, like: Tensor) -> Tensor:
    """A size as a tensor, ()."""
    return torch.scalar_tensor(n, dtype=torch.float32, device=like.device)
