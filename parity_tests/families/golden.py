"""Families whose own code can't be installed: their files and float64 answers are golden (parity_tests/golden)."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.families.base import Family, Saved
from parity_tests.golden.case import key, model_input
from parity_tests.real.base import Answer
from vit_convert.config import ViTConfig

ROOT = Path(__file__).parent.parent / "golden"


def golden(
    family: str, case: str, layout: str, name: str, asked: tuple[str, ...] = (), output: str = "output", **more: Any
) -> Family:
    """The family of a golden case; `more` are fields of Family.

    Args:
        asked: config fields that the file doesn't tell: the user gives them, as they are in the record.
        output: the array that has the answers.
    """
    facts = json.loads((ROOT / family / f"{case}.json").read_text(encoding="utf-8"))
    commit = facts["provenance"]["repository"], facts["provenance"]["commit"][:7]
    sizes = [tuple(size) for size in facts["sizes"]]
    given = {name: getattr(ViTConfig(**facts["config"]), name) for name in asked}
    return Family(
        name=name,
        real=f"{facts['constructor']['class'].rpartition('.')[2]} of {commit[0]} at {commit[1]} (golden)",
        layout=layout,
        save=saver(ROOT / family / facts["file"], ROOT / family / f"{case}.expected.npz", sizes, output),
        load=None,
        config=facts["config"],
        **{"size": sizes[0], "second_size": sizes[-1], "given": given, **more},
    )


def saver(weights: Path, expected: Path, sizes: list[tuple[int, int]], output: str) -> Callable[[Path], Saved]:
    """Copies the golden file, and gives the answers that were written beside it."""

    def save(folder: Path) -> Saved:
        copy = shutil.copytree if weights.is_dir() else shutil.copy
        copy(weights, folder / weights.name)
        arrays = np.load(expected)
        images = [model_input(arrays[key("images", size)]) for size in sizes]
        answers = [_answer(arrays[key(output, size)]) for size in sizes]
        second = (answers[1], images[1]) if len(sizes) > 1 else (None, None)
        return Saved(folder / weights.name, answers[0], second[0], images[0], second[1])

    return save


def _answer(expected: np.ndarray) -> Answer:
    return lambda images: expected
