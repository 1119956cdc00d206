"""What the pictures have in common: made without a display, and never half-written."""

from os import PathLike
from pathlib import Path
from typing import Any

from vit_convert.beside import beside


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, in inches. Without pyplot: no display, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Any, path: str | PathLike[str]) -> None:
    """Writes beside path, then renames."""
    with beside(Path(path)) as temporary:
        figure.savefig(temporary, format="png")
