"""The plot of the report: each layer's error in both frameworks, in the order in which the layers are computed."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from parity_tests.tolerances import FORWARD
from parity_tests.verify.measure import Exact, Rounded
from parity_tests.verify.prove import Proof

WEIGHTS = ".attn.weights"
LEAST = 1e-18  # where no difference at all stands on a logarithmic axis
TICKS = 1.4  # blocks that are numbered on an inch, at most
FINE = 1.5  # decades of an axis that has labels within them


@dataclass(frozen=True)
class Style:
    """Colours that read on the page's background, and apart for the colour-blind (Okabe & Ito 2008)."""

    text: str
    grid: str
    torch: str
    flax: str


LIGHT = Style(text="#24292f", grid="#d8dee4", torch="#d55e00", flax="#0072b2")
DARK = Style(text="#d0d7de", grid="#373e47", torch="#ff9f4a", flax="#6cb6ff")


def draw_layers(proof: Proof, style: Style, width: float) -> bytes:
    """An SVG, `width` inches wide: a panel for each dtype."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    file = io.BytesIO()
    # The same page for the same proof: neither the date nor random names of the SVG's parts.
    with rc_context({"svg.hashsalt": "vit-verify", "font.size": 10}):
        figure = Figure(figsize=(width, 2.7 * len(proof.dtypes) + 0.2), layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(len(proof.dtypes), 1, squeeze=False)[:, 0]
        for axes, (dtype, measured) in zip(panels, proof.dtypes.items(), strict=True):
            _panel(axes, dtype, measured.distances, style, round(TICKS * width))
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return file.getvalue()


def _panel(axes: Any, dtype: str, distances: Exact | Rounded, style: Style, ticks: int) -> None:
    if isinstance(distances, Exact):
        _series(axes, distances.gaps, "Flax from PyTorch", style.flax, "o")
        axes.axhline(FORWARD, color=style.torch, linestyle="--", linewidth=1, label=f"bound {FORWARD:.0e}")
        title = f"{dtype}: largest difference / largest value"
    else:
        _series(axes, {n: e.torch for n, e in distances.layers.items()}, "PyTorch", style.torch, "s", 7)
        _series(axes, {n: e.flax for n, e in distances.layers.items()}, "Flax", style.flax, "o")
        title = f"{dtype}: error (rms) against float64"
    axes.set_yscale("log")
    names = list(distances.gaps if isinstance(distances, Exact) else distances.layers)
    _ticks(axes, names, ticks)
    _decades(axes)
    _paint(axes, title, style)


def _series(axes: Any, values: Mapping[str, float], label: str, colour: str, marker: str, size: float = 4) -> None:
    """A line through the tokens from block to block, and dots for the attention weights between them."""
    places = {name: i for i, name in enumerate(values)}
    line = {places[name]: max(value, LEAST) for name, value in values.items() if not name.endswith(WEIGHTS)}
    dots = {places[name]: max(value, LEAST) for name, value in values.items() if name.endswith(WEIGHTS)}
    axes.plot(list(line), list(line.values()), color=colour, marker=marker, markersize=size, linewidth=1.4, label=label)
    axes.plot(list(dots), list(dots.values()), color=colour, marker=marker, markersize=size - 1, linewidth=0, alpha=0.6)
    lost = [place for place, value in (line | dots).items() if not isfinite(value)]
    if lost:  # no axis has a place for NaN and infinity: at the top
        axes.plot(lost, [0.97] * len(lost), color=colour, marker="x", linewidth=0, transform=axes.get_xaxis_transform())


def _ticks(axes: Any, names: list[str], most: int) -> None:
    blocks = [i for i, name in enumerate(names) if name.startswith("blocks.") and not name.endswith(WEIGHTS)]
    step = -(-len(blocks) // most)
    marked = {i: names[i].removeprefix("blocks.") for i in blocks[::step]}
    marked |= {i: name for i, name in enumerate(names) if not name.startswith("blocks.")}
    axes.set_xticks(list(marked), list(marked.values()))
    for i, label in zip(marked, axes.get_xticklabels(), strict=True):
        if i not in blocks:
            label.set_rotation(90)


def _decades(axes: Any) -> None:
    """Labels within the decades where there are few of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    least, most = axes.get_ylim()
    within = (1.0, 2.0, 5.0) if most < least * 10**FINE else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=within))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _paint(axes: Any, title: str, style: Style) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=style.text)
    axes.grid(axis="y", color=style.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=style.text, labelsize=9, length=0)
    axes.tick_params(which="minor", length=0, labelleft=False)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(style.grid)
    legend = axes.legend(frameon=False, fontsize=9, loc="best", ncols=2)
    for text in legend.get_texts():
        text.set_color(style.text)
