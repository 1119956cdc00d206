"""What a model learned before it saw your image: patch filters and positions (Dosovitskiy et al. 2021, figure 7)."""

from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_tools.figures import new_figure, save_png

COMPONENTS = 28  # as the paper's figure has


def principal_filters(kernel: npt.NDArray[Any], count: int = COMPONENTS) -> npt.NDArray[np.float64]:
    """The first principal components of the patch filters: (D, C, kh, kw) -> (count, kh, kw, C), each in [0, 1].

    A component's sign is arbitrary: its largest value is made positive.
    """
    D = kernel.shape[0]
    flat = kernel.reshape(D, -1).astype(np.float64)
    _, _, components = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    found = components[: min(count, len(components))]
    found = found * np.sign(np.take_along_axis(found, np.abs(found).argmax(1)[:, None], 1))
    low, high = found.min(1, keepdims=True), found.max(1, keepdims=True)
    scaled = (found - low) / np.maximum(high - low, 1e-12)
    return scaled.reshape(-1, *kernel.shape[1:]).transpose(0, 2, 3, 1)


def position_similarity(table: npt.NDArray[Any], config: ViTConfig) -> npt.NDArray[np.float64]:
    """Cosines between the positions of all patches: (1, rows, D) -> (rows, columns, rows, columns)."""
    patches = table[0, config.num_pos_prefix :].astype(np.float64)
    unit = patches / np.maximum(np.linalg.norm(patches, axis=1, keepdims=True), 1e-12)
    return (unit @ unit.T).reshape(*config.grid, *config.grid)


def position_table(tensors: dict[str, npt.NDArray[Any]], config: ViTConfig) -> npt.NDArray[Any]:
    """The table (1, rows, D) that a model adds to its patches.

    Raises:
        CheckpointError: it adds none.
    """
    if config.pos_embed == "learned":
        return tensors["pos_embed"]
    if config.pos_embed == "sincos2d":
        from vit_convert.positions import sincos2d

        return sincos2d(config.grid, config.dim)[None]
    raise CheckpointError("this model adds no positions to its patches (its attention rotates them): no table to show")


def check_finite(name: str, values: npt.NDArray[Any]) -> None:
    """
    Raises:
        CheckpointError: of what is to be drawn, some is NaN or infinite.
    """
    if strange := int((~np.isfinite(values)).sum()):
        raise CheckpointError(f"{name}: {strange:,} of {values.size:,} values are NaN or infinite: nothing to draw")


def draw_anatomy(
    kernel: npt.NDArray[Any], table: npt.NDArray[Any] | None, config: ViTConfig, path: str | PathLike[str]
) -> None:
    """The filters' principal components, and for a sample of patches how alike all positions are to theirs.

    Raises:
        CheckpointError: the filters or positions aren't finite.
    """
    check_finite("patch_embed.proj.weight", kernel)
    if table is not None:
        check_finite("pos_embed", table)
    figure = new_figure(11 if table is not None else 5.5, 5.2)
    sides = figure.subfigures(1, 2 if table is not None else 1, squeeze=False)[0]
    _draw_filters(sides[0], principal_filters(kernel))
    if table is not None:
        _draw_positions(sides[1], position_similarity(table, config))
    save_png(figure, path)


def _draw_filters(side: Any, filters: npt.NDArray[np.float64]) -> None:
    side.suptitle("patch filters: principal components", fontsize=11)
    columns = min(7, len(filters))
    cells = side.subplots(-(-len(filters) // columns), columns, squeeze=False)
    for cell in cells.flat:
        cell.set_axis_off()
    for cell, pixels in zip(cells.flat, filters, strict=False):
        cell.imshow(pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., 0], cmap="gray")


def _draw_positions(side: Any, similarity: npt.NDArray[np.float64]) -> None:
    side.suptitle("positions: cosine of each patch with all", fontsize=11)
    rows, columns = (np.unique(np.linspace(0, n - 1, min(n, 7)).round().astype(int)) for n in similarity.shape[:2])
    cells = side.subplots(len(rows), len(columns), squeeze=False)
    drawn = None
    for axes, row in zip(cells, rows, strict=True):
        for cell, column in zip(axes, columns, strict=True):
            cell.set_xticks([])
            cell.set_yticks([])
            drawn = cell.imshow(similarity[row, column], vmin=-1, vmax=1, cmap="viridis")
    for cell, column in zip(cells[-1], columns, strict=True):
        cell.set_xlabel(column + 1, fontsize=8)
    for axes, row in zip(cells, rows, strict=True):
        axes[0].set_ylabel(row + 1, fontsize=8)
    if drawn is not None:
        side.colorbar(drawn, ax=cells, shrink=0.8, label="cosine")
