"""Attention as a picture: images beside what was read of them, each in its own aspect ratio, with scales."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_convert.preprocess import Preprocess, Size
from vit_tools.attention.maps import Attention
from vit_tools.attention.on_image import on_image
from vit_tools.figures import new_figure, save_png

COLOURS = "inferno"  # evenly brighter, so that it survives grey print and colour blindness
NORMS = "viridis"  # likewise; another one, for it is another quantity
HEADS_A_ROW = 4
PANEL = 2.3  # inches of a panel's longer side
SHOWN_THROUGH = 0.35  # of the image under its heat
LONGER_SIDE = 600  # pixels of an image in a picture: twice what a panel has
LETTERS = 34  # that a panel has room for above it
MOST = 64  # images in one picture: 21,000 pixels high, and 300 MB while it is made

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Seen:
    """One image, (height, width, C) as people see it, and what to write above it."""

    pixels: Pixels
    title: str
    original: Size | None = None  # (height, width) of the image, where the pixels are fewer

    @property
    def size(self) -> Size:
        """(height, width) of the image itself."""
        return self.original or self.shown

    @property
    def shown(self) -> Size:
        """(height, width) of the pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


def seen(pixels: Pixels, title: str) -> Seen:
    """An image (height, width, 3) of any size, kept `reduced`."""
    return Seen(reduced(pixels), title, (pixels.shape[0], pixels.shape[1]))


def caption(name: str, more: str = "") -> str:
    """A name and what stays whole behind it; of a longer name than a panel has room for the beginning."""
    room = LETTERS - len(more)
    return (name if len(name) <= room else name[: room - 1].rstrip(" ,") + "…") + more


def reduced(pixels: Pixels) -> Pixels:
    """(height, width, 3), of LONGER_SIDE pixels on the longer side if it has more: a panel shows no more."""
    if max(pixels.shape[:2]) <= LONGER_SIDE:
        return pixels
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((LONGER_SIDE, LONGER_SIDE))
    return np.asarray(image)


def draw(images: Sequence[Seen], found: Attention, preprocess: Preprocess, path: str | PathLike[str]) -> None:
    """A row an image: the image, what the last layer reads, rollout, token norms; of a single image its heads as well.

    Attention is shown over an even share: 1 is what every token would get if all were read alike. Token norms show
    the outliers that take over patches as registers do (Darcet et al. 2024).
    """
    rows = [_row(i, image, found) for i, image in enumerate(images)]
    if len(images) == 1:
        rows += _heads(images[0], found)
    _grid(rows, preprocess, path)


def draw_pairs(
    images: npt.NDArray[np.uint8], maps: npt.NDArray[np.float64], titles: Sequence[str], path: str | PathLike[str]
) -> None:
    """Each image, and beside it the image under its map, with one scale for all: for many small images.

    Args:
        images: (B, H, W, C) as people see them; C of 1 is grey.
        maps: (B, rows, columns), which cover the whole image.
        titles: one an image.
    """
    columns, highest = min(4, len(images)), float(maps.max())
    lines = -(-len(images) // columns)
    figure = new_figure(3.4 * columns + 0.8, 1.95 * lines + 0.35)
    cells = figure.subplots(lines, 2 * columns, squeeze=False)
    for cell in cells.flat:
        cell.set_axis_off()
    for i, (image, heat, title) in enumerate(zip(images, maps, titles, strict=True)):
        plain, under = cells[i // columns, 2 * (i % columns)], cells[i // columns, 2 * (i % columns) + 1]
        _show(plain, image, title, 10)
        whole = Preprocess(resize=image.shape[:2], crop=image.shape[:2], mode="squash")
        under.imshow(blend(image, on_image(heat, whole, image.shape[:2]), highest, COLOURS))
    _scale(figure, cells, highest, COLOURS, "attention on a patch, mean of heads")
    save_png(figure, path)


@dataclass(frozen=True)
class _Panel:
    image: Seen
    title: str
    heat: npt.NDArray[np.float64] | None = None  # (rows, columns); it is spread when it is drawn
    unit: str = ""
    highest: float | None = None


def _row(i: int, image: Seen, found: Attention) -> list[_Panel]:
    even, elsewhere = found.mean[i].size, found.prefix[i]
    beside = f", {elsewhere:.0%} on other tokens" if elsewhere else ""
    return [
        _Panel(image, image.title),
        _Panel(image, f"last layer{beside}", found.mean[i] * even, "attention / even share"),
        _Panel(image, "rollout", found.rollout[i] * even, "attention / even share"),
        _Panel(image, "size of tokens", found.norms[i], "norm"),
    ]


def _heads(image: Seen, found: Attention) -> list[list[_Panel]]:
    heads = found.heads[0] * found.mean[0].size
    panels = [
        _Panel(image, f"head {h}", heat, "attention / even share", float(heads.max())) for h, heat in enumerate(heads)
    ]
    return [panels[at : at + HEADS_A_ROW] for at in range(0, len(panels), HEADS_A_ROW)]


def _grid(rows: list[list[_Panel]], preprocess: Preprocess, path: str | PathLike[str]) -> None:
    columns = max(map(len, rows))
    heights = [PANEL * min(1.0, max(p.image.shown[0] / p.image.shown[1] for p in row)) + 0.45 for row in rows]
    figure = new_figure((PANEL + 0.75) * columns, sum(heights) + 0.1)
    cells = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    for row, axes in zip(rows, cells, strict=True):
        for cell in axes:
            cell.set_axis_off()
        for panel, cell in zip(row, axes, strict=False):
            _draw_panel(figure, cell, panel, preprocess)
    save_png(figure, path)


def _draw_panel(figure: Any, cell: Any, panel: _Panel, preprocess: Preprocess) -> None:
    image = panel.image
    if panel.heat is None:
        _show(cell, image.pixels, panel.title)
        return
    spread = on_image(panel.heat, preprocess, image.size, image.shown)
    highest = panel.highest or float(np.nanmax(spread)) or 1.0
    colours = NORMS if panel.unit == "norm" else COLOURS
    blended = np.round(blend(image.pixels, spread, highest, colours) * 255).astype(np.uint8)  # an eighth of the memory
    _show(cell, blended, panel.title)
    _scale(figure, cell, highest, colours, panel.unit)


def _show(cell: Any, pixels: npt.NDArray[Any], title: str, size: int = 9) -> None:
    shown = title.encode(errors="replace").decode()  # a file name that isn't UTF-8 has bytes that no font draws
    cell.set_title(shown.replace("$", r"\$"), fontsize=size, loc="left")
    grey = pixels.shape[-1] == 1
    cell.imshow(pixels[..., 0] if grey else pixels, **(dict(cmap="gray", vmin=0, vmax=255) if grey else {}))


def _scale(figure: Any, cells: Any, highest: float, colours: str, what: str) -> None:
    """A bar of the colours themselves: the image shows through in the picture, not in its scale."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = figure.colorbar(ScalarMappable(Normalize(0, highest), colours), ax=cells, fraction=0.046, pad=0.02)
    bar.set_label(what, fontsize=7)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)


def blend(
    pixels: Pixels, heat: npt.NDArray[np.float64], highest: float, colours: str = COLOURS
) -> npt.NDArray[np.float64]:
    """The image in grey under its heat's colours, (height, width, 3) in [0, 1]; what the model did not see, in grey and
    paler.

    Args:
        heat: (height, width), 0 to `highest`; NaN where the model did not see.
    """
    from matplotlib import colormaps

    grey = np.repeat(pixels[..., :3].mean(-1, keepdims=True) / 255, 3, axis=-1)
    coloured = colormaps[colours](np.nan_to_num(heat) / highest)[..., :3]
    seen = np.isfinite(heat)[..., None]
    return np.where(seen, SHOWN_THROUGH * grey + (1 - SHOWN_THROUGH) * coloured, 0.5 + 0.4 * grey)
