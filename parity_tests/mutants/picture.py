"""The page as a picture: how far each mistake is from what a test allows, by the usual test and by this suite."""

from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.mutants.judge import Kept, Verdict
from parity_tests.mutants.outcome import CONVENTIONAL, Outcome

# Okabe & Ito 2008: apart for the colour-blind.
MISSED, SEEN, TRUE = "#d55e00", "#0072b2", "#009e73"
LEAST, MOST = 1e-9, 1e13  # what is further out stands at the edge
ROWS = ("the usual test:\nfloat32 outputs,\natol=5e-2", "this suite:\nfloat64, and noise\nagainst noise")


def draw(outcome: Outcome, path: Path) -> None:
    """Writes a PNG."""
    from vit_tools.figures import new_figure, save_png  # as in report.py

    figure = new_figure(9, 3.6)
    axes = figure.subplots()
    verdicts = [v for v in outcome.verdicts.values() if isinstance(v, Verdict)]
    usual = times([(v.conventional, CONVENTIONAL) for v in verdicts if v.conventional is not None])
    suite = times([(v.seen.found, v.seen.tolerance) for v in verdicts if v.seen is not None])
    true = times([(kept.times, 1.0) for kept in outcome.kept.values() if isinstance(kept, Kept)])
    missed = f"{int((usual <= 1).sum())} of {len(verdicts)} mistakes pass"
    _dots(axes, 1, usual[usual <= 1], MISSED, missed)
    _dots(axes, 1, usual[usual > 1], SEEN, "mistakes that are seen")
    _dots(axes, 0, suite, SEEN, None)
    _dots(axes, 0, true, TRUE, f"the true code, the worst of each of {len(true)} promises")
    axes.axvline(1, color="#24292f", linewidth=1)
    axes.set(xscale="log", xlim=(LEAST, MOST), ylim=(-0.6, 1.6), yticks=(1, 0), yticklabels=ROWS)
    axes.set_xlabel("difference that is found, as a multiple of what the test allows: the test fails to the right of 1")
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), frameon=False, ncols=3, fontsize=9)
    save_png(figure, path)


def times(found: list[tuple[float, float]]) -> np.ndarray:
    """Each as a multiple of what is allowed, within the picture; infinite where nothing is allowed and something is."""
    return np.clip([value / (allowed or LEAST) for value, allowed in found], LEAST * 1.5, MOST / 1.5)


def _dots(axes: Any, row: int, values: np.ndarray, colour: str, label: str | None) -> None:
    """Spread over the row's height, the same way each time, so that they don't hide each other."""
    spread = 0.36 * np.sin(2.39996 * np.arange(len(values)))  # the golden angle: neighbours far apart
    axes.plot(values, row + spread, "o", color=colour, markersize=4, alpha=0.75, markeredgewidth=0, label=label)
