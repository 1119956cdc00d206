"""Attention maps: where a model looked, laid over the images.

The weights come from either framework: `model(images, ("blocks.3.attn.weights",))`.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_convert.config import ViTConfig, grid_of

COLOURS = "inferno"  # evenly brighter, so it survives greyscale print and colour blindness


def attention_map(
    weights: Any, config: ViTConfig, image_size: tuple[int, int] | None = None
) -> npt.NDArray[np.float64]:
    """How much each patch was looked at: (B, H, T, T) softmax weights of either framework -> (B, rows, columns).

    For models pooled by their class token, what that token reads; for the others, what all patches
    read together (their features are averaged or pooled in turn). Heads are averaged. Each map
    sums to the part of the attention that falls on patches: what class and register tokens take
    is missing, not spread.

    Raises:
        ValueError: the weights don't fit the config's tokens.
    """
    if hasattr(weights, "detach"):  # torch's, which may need a gradient or be bfloat16
        weights = weights.detach().cpu().double()
    weights = np.asarray(weights, np.float64)
    rows, columns = grid_of(image_size or config.image_hw, config.patch_hw)
    prefix = config.num_prefix
    tokens = prefix + rows * columns
    if weights.ndim != 4 or weights.shape[2:] != (tokens, tokens):
        raise ValueError(f"attention weights must be (B, H, {tokens}, {tokens}), got {weights.shape}")
    heads = weights.mean(axis=1)
    by_class = config.pool in ("class", "class_mean", "class_dist")
    read = heads[:, 0, prefix:] if by_class else heads[:, prefix:, prefix:].mean(axis=1)
    return read.reshape(-1, rows, columns)


def draw_attention(
    images: npt.NDArray, maps: npt.NDArray[np.float64], titles: Sequence[str], path: str | PathLike[str]
) -> None:
    """A picture of pairs: each image, and beside it the image under its map, with a scale.

    Args:
        images: (B, H, W, C) as people see them, uint8 or floats in [0, 1]; C of 1 is grey.
        maps: (B, rows, columns), from `attention_map`.
        titles: one an image.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(4, len(images))
    lines = -(-len(images) // columns)
    figure = Figure(figsize=(3.4 * columns + 0.8, 1.95 * lines + 0.35), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    cells = figure.subplots(lines, 2 * columns, squeeze=False)
    highest = float(maps.max())
    heat = None
    for cell in cells.flat:
        cell.set_axis_off()
    for i, (image, attention, title) in enumerate(zip(images, maps, titles, strict=True)):
        plain, under = cells[i // columns, 2 * (i % columns)], cells[i // columns, 2 * (i % columns) + 1]
        shown = image[..., 0] if image.shape[-1] == 1 else image
        plain.imshow(shown, cmap="gray")
        plain.set_title(title, fontsize=10, loc="left")
        frame = (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
        under.imshow(shown, cmap="gray")
        style = dict(cmap=COLOURS, vmin=0, vmax=highest, interpolation="bilinear", extent=frame)
        heat = under.imshow(attention, alpha=0.75, **style)  # the image shows through, the colours still read
    if heat is not None:
        figure.colorbar(heat, ax=cells, fraction=0.02, pad=0.01, label="attention on a patch, mean of heads")
    beside = Path(path).with_name(f".{Path(path).name}.part")
    figure.savefig(beside, format="png")
    beside.replace(path)  # never half a picture under the name
