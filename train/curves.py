"""The curves of a run as a picture."""

import json
from pathlib import Path
from typing import Any

from train.pictures import new_figure, save_png


def leave_curves(run: Path, title: str, loss: str) -> str | None:
    """Draws a run's metrics.jsonl as its curves.png. Days of training end with no error for want of a picture: where
    the rows are gone or damaged it is left out, and why is what this gives, in words.

    Raises:
        SavingError: the picture can't be written.
    """
    metrics, picture = run / "metrics.jsonl", run / "curves.png"
    try:
        rows = read_rows(metrics)
    except OSError as error:
        return f"{picture} is left out: {metrics} can't be read: {error.strerror or error}"
    except ValueError as error:
        return f"{picture} is left out: {error}"
    draw_curves(rows, picture, title, loss)
    return None


def read_rows(metrics: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl.

    Raises:
        OSError: it can't be read.
        ValueError: it has no rows, or a line that is none; the message says which.
    """
    lines = metrics.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [_row(line, f"{metrics}, line {at}") for at, line in enumerate(lines, 1)]
    if not rows:
        raise ValueError(f"{metrics} has no rows")
    return rows


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if isinstance(row, dict) and _is_measured(row):
            return row
    except ValueError:
        pass
    raise ValueError(f"{where}, is no row of a run: {line[:60]!r}")


def _is_measured(row: dict[str, Any]) -> bool:
    """Whether it has what is drawn of it, in numbers: only losses are null, where they are infinite."""
    needed = ["epoch", *["accuracy", "learning_rate"] * ("loss" in row), *["test_accuracy"] * ("test_loss" in row)]
    numbers = {name for name, value in row.items() if isinstance(value, int | float)}
    return numbers.issuperset(needed) and all(row[name] is None for name in row.keys() - numbers)


def draw_curves(rows: list[dict[str, Any]], path: Path, title: str, loss: str = "softmax") -> None:
    """Training loss, held-out accuracy and learning rate over the epochs, as a PNG at path. `loss` is what is trained;
    what is held out is judged by softmax cross-entropy, which a sigmoid loss doesn't compare with."""
    from matplotlib.ticker import PercentFormatter

    train = [row for row in rows if "loss" in row]
    test = [row for row in rows if "test_loss" in row]
    figure = new_figure(8, 8)
    losses, accuracies, rates = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.6))
    figure.suptitle(title, fontsize=12)

    of = (", binary, a class", ", softmax") if loss == "sigmoid" else ("", "")
    for shown, name, label, style in (
        (train, "loss", "training, augmented", "C0-"),
        (test, "test_loss", "held out", "C1o-"),
    ):
        kind = of[0] if shown is train else of[1]
        losses.plot([r["epoch"] for r in shown], [r[name] for r in shown], style, ms=3, label=label + kind)
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

    save_png(figure, path)
