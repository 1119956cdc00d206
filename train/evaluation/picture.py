"""confusion.png: what is taken for what. Few classes with their counts, many as a heat map and the worst pairs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.evaluation.confused import most_confused
from train.pictures import new_figure, save_png

FEW = 20  # classes whose counts are legible in their cells
BLOCKS = 250  # of a heat map, a side: more would be smaller than pixels
PAIRS = 25
WIDEST = 22  # letters of a name


def draw_confusion(confusion: np.ndarray, names: Sequence[str], path: Path, title: str) -> None:
    """A PNG at path.

    Args:
        confusion: (K, K) counts: label, prediction.
        names: of the K classes.
    """
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    draw = _with_counts if len(names) <= FEW else _heat_map
    figure = draw(confusion, shares, [shorten(name) for name in names])
    figure.suptitle(title.replace("$", r"\$"), fontsize=12)
    save_png(figure, path)


def shorten(name: str) -> str:
    """At most WIDEST letters, the first of several names (ImageNet's have synonyms), and no mathematics."""
    first = name.split(",")[0].strip() or name
    return (first if len(first) <= WIDEST else first[: WIDEST - 1] + "…").replace("$", r"\$")


def _with_counts(confusion: np.ndarray, shares: np.ndarray, names: list[str]) -> Any:
    count, longest = len(names), max(map(len, names))
    side = max(4.5, 0.55 * count + 1.5) + 0.07 * longest
    figure = new_figure(side + 0.6, side)
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), n in np.ndenumerate(confusion):
        if n:
            dark = shares[i, j] > 0.55
            axes.text(j, i, f"{n:,}", ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axes.set_xticks(range(count), names, rotation=0 if longest <= 3 else 45, ha="center" if longest <= 3 else "right")
    axes.set_yticks(range(count), names)
    axes.tick_params(length=0, labelsize=9)
    _label(figure, axes, drawn, "share of the class's examples")
    return figure


def _heat_map(confusion: np.ndarray, shares: np.ndarray, names: list[str]) -> Any:
    from matplotlib.colors import PowerNorm

    count = len(names)
    figure = new_figure(13, 7.2)
    axes, beside = figure.subplots(1, 2, width_ratios=(1.25, 1))
    blocks, side = in_blocks(shares, BLOCKS)
    limits = (-0.5, blocks.shape[1] * side - 0.5, blocks.shape[0] * side - 0.5, -0.5)
    norm = PowerNorm(0.4, vmin=0, vmax=1)  # a tenth is seen as well
    drawn = axes.imshow(blocks, cmap="magma_r", norm=norm, extent=limits, interpolation="nearest")
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(count - 0.5, -0.5)
    what = "share of the class's examples" + (f" (the largest of {side} x {side} classes)" if side > 1 else "")
    _label(figure, axes, drawn, what)
    _list_pairs(beside, confusion, names)
    return figure


def _label(figure: Any, axes: Any, drawn: Any, what: str) -> None:
    axes.set_xlabel("predicted class")
    axes.set_ylabel("label")
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8)
    bar.set_label(what)
    bar.outline.set_visible(False)


def _list_pairs(axes: Any, confusion: np.ndarray, names: list[str]) -> None:
    axes.set_axis_off()
    pairs = most_confused(confusion, names, PAIRS)
    heading = "taken for another the most" if pairs else "no example is taken for another class"
    axes.text(0, 1, heading, transform=axes.transAxes, va="top", fontsize=11, weight="bold")
    for row, pair in enumerate(pairs, start=1):
        y = 1 - 0.01 - row * 0.038
        for x, align, text in (
            (0.13, "right", f"{pair.count:,} of {pair.of:,}"),
            (0.17, "left", pair.label),
            (0.60, "left", f"as {pair.prediction}"),
        ):
            axes.text(x, y, text, transform=axes.transAxes, va="top", ha=align, fontsize=9)


def in_blocks(values: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """(the largest of each block, classes on its side): (K, K) -> at most (most, most), so that no cell vanishes."""
    side = -(-len(values) // most)
    fill = -len(values) % side
    padded = np.pad(values, ((0, fill), (0, fill)))
    rows = len(padded) // side
    return padded.reshape(rows, side, rows, side).max((1, 3)), side
