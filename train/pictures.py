"""What the pictures of a run have in common: made without a display, and never half-written."""

import os
from pathlib import Path
from typing import Any

from train.errors import saving


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, in inches. Without pyplot: no display, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Any, path: Path) -> None:
    """Writes beside path, then renames.

    Raises:
        SavingError: it can't be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with saving(path):
        try:
            figure.canvas.print_png(beside)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
