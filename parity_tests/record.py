"""The pytest plugin behind `--margins DIR`: what each test held against which bound, as lines of JSON."""

import json
import os
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from parity_tests.bound import Bound


@dataclass(frozen=True)
class Figure:
    """The worst that one test held against one bound."""

    test: str  # pytest's node id
    bound: str  # its name
    found: float
    limit: float  # the number that it was held against
    count: int  # how many comparisons there were

    @property
    def margin(self) -> float:
        """Worst seen over tolerance."""
        return self.found / self.limit


class Recorder:
    """Listens to the bounds, and writes a line for each that a passing test used.

    A comparison may fail in a test that passes: the test plants a mistake, and none of its figures is written. A test
    that fails leaves a line that says so, and no page is made of it (margins.py).

    Args:
        folder: where this process, which may be a worker of pytest-xdist, makes a file of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / f"{os.getpid()}.jsonl"
        self.heard: list[tuple[Bound, float, bool]] = []
        folder.mkdir(parents=True, exist_ok=True)
        Bound.listener = self.hear

    def hear(self, bound: Bound, found: float, holds: bool) -> None:
        self.heard.append((bound, found, holds))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed:
            self.write([{"test": item.nodeid, "failed": report.when}])
        elif report.when == "call" and all(holds for _, _, holds in self.heard):
            self.write([asdict(figure) for figure in figures(item.nodeid, self.heard)])
        if report.when != "setup":  # what a fixture compares belongs to the test that asked for it first
            self.heard.clear()
        return report

    def write(self, rows: list[dict[str, Any]]) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def figures(test: str, heard: list[tuple[Bound, float, bool]]) -> list[Figure]:
    """One for each bound: the comparison that came nearest to its number."""
    by_name: dict[str, list[tuple[float, float]]] = {}
    for bound, found, _ in heard:
        by_name.setdefault(bound.name, []).append((found, float(bound)))
    nearest = {name: max(pairs, key=lambda pair: pair[0] / pair[1]) for name, pairs in by_name.items()}
    return [Figure(test, name, *nearest[name], len(pairs)) for name, pairs in by_name.items()]
