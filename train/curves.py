"""The curves of a run as a picture."""

import json
import os
from pathlib import Path
from typing import Any


def read_rows(metrics: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl."""
    return [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]


def draw_curves(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    """Training loss, held-out accuracy and learning rate over the epochs, as a PNG at path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no pyplot: no display, no global state
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    train = [row for row in rows if "loss" in row]
    test = [row for row in rows if "test_accuracy" in row]
    figure = Figure(figsize=(8, 8), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    losses, accuracies, rates = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.6))
    figure.suptitle(title, fontsize=12)

    losses.plot([r["epoch"] for r in train], [r["loss"] for r in train], color="C0", label="training, augmented")
    losses.plot([r["epoch"] for r in test], [r["test_loss"] for r in test], "o-", ms=3, color="C1", label="held out")
    losses.set_ylabel("cross-entropy (nats)")
    losses.set_ylim(bottom=0)

    accuracies.plot(
        [r["epoch"] for r in train], [r["accuracy"] for r in train], color="C0", label="training, augmented"
    )
    accuracies.plot(
        [r["epoch"] for r in test], [r["test_accuracy"] for r in test], "o-", ms=3, color="C1", label="held out"
    )
    accuracies.set_ylabel("accuracy")
    accuracies.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    accuracies.set_ylim(0, 1.03)
    if test:
        last = test[-1]
        accuracies.annotate(
            f"{last['test_accuracy']:.2%}", (last["epoch"], last["test_accuracy"]), (-4, -14),
            textcoords="offset points", ha="right", color="C1", weight="bold",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        )  # fmt: skip

    rates.plot([r["epoch"] for r in train], [r["learning_rate"] for r in train], color="C2")
    rates.set_ylabel("learning rate")
    rates.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    rates.set_ylim(bottom=0)
    rates.set_xlabel("epoch")
    rates.set_xlim(0, max(r["epoch"] for r in rows))
    for axes in (losses, accuracies):
        axes.legend(frameon=False)
    for axes in (losses, accuracies, rates):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)

    beside = path.with_name(f".{path.name}.{os.getpid()}")
    canvas.print_png(beside)
    os.replace(beside, path)
