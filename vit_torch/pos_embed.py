"""Position embeddings: learned (Dosovitskiy et al. 2021, eq. 1), fixed 2D sine-cosine, or none."""

import torch
from torch import Tensor

from vit_convert.config import ViTConfig
from vit_convert.positions import resize_matrices, sincos2d
from vit_torch import symbolic


def add_positions(
    config: ViTConfig, table: Tensor | None, prefix: Tensor, patches: Tensor, grid: tuple[int, int]
) -> Tensor:
    """The token sequence: prefix (B, P, D) and patches (B, N, D) -> (B, P + N, D).

    The table's first `num_pos_prefix` rows belong to the first prefix tokens, the rest to the
    patches: adding before or after the prefix is put in front is one and the same.
    """
    if config.pos_embed == "sincos2d":
        open_size = symbolic.is_symbolic(grid)
        waves = symbolic.sincos2d(grid, config.dim, patches) if open_size else torch.tensor(sincos2d(grid, config.dim))
        patches = patches + waves.to(device=patches.device, dtype=patches.dtype)
    elif table is not None:
        rows = config.num_pos_prefix
        patches = patches + resize_positions(config, table[:, rows:], grid)
        prefix = torch.cat([prefix[:, :rows] + table[:, :rows], prefix[:, rows:]], dim=1)
    return torch.cat([prefix, patches], dim=1)


def resize_positions(config: ViTConfig, table: Tensor, grid: tuple[int, int]) -> Tensor:
    """The patches' rows for another grid: (1, rows * columns, D) -> (1, N, D), by `config.pos_resize`."""
    if symbolic.is_symbolic(grid):
        matrices = symbolic.resize_matrices(config.grid, grid, config.pos_resize, table)
    elif (known := resize_matrices(config.grid, grid, config.pos_resize)) is None:
        return table
    else:
        matrices = tuple(torch.tensor(m, device=table.device) for m in known)
    rows, columns = (m.to(table.dtype) for m in matrices)
    table = table.reshape(*config.grid, config.dim)
    table = torch.einsum("ai,ibd->abd", rows, torch.einsum("bj,ijd->ibd", columns, table))
    return table.reshape(1, -1, config.dim)
