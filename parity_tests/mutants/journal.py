"""Verdicts as they come, a JSON line each: a run that was stopped goes on from them, on the same sources."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from parity_tests.mutants.judge import Kept, Seen, Verdict
from parity_tests.mutants.mutant import ROOT
from parity_tests.mutants.outcome import Outcome

PACKAGES = ("vit_convert", "vit_torch", "vit_flax", "train", "parity_tests")
DATA = "parity_tests/golden"  # other repositories' files and answers
WORDS = ("parity_tests/mutants/report.py", "parity_tests/mutants/picture.py")  # no verdict comes from them


def tree_sum(root: Path = ROOT) -> str:
    """SHA-256 of every file that a verdict may come from (promises use parts of tests), and of their names."""
    files = [path for package in PACKAGES for path in (root / package).rglob("*.py")]
    files += [path for path in (root / DATA).rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    names = sorted(path.relative_to(root).as_posix() for path in files)
    found = hashlib.sha256()
    for name in names:
        if name not in WORDS:
            found.update(f"{name}\n{hashlib.sha256((root / name).read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


class Journal:
    """A file of good verdicts: what survived, alarmed or crashed is asked again.

    Args:
        path: of the file; None: nothing is remembered.
        tree: the sum of the sources. What the file has of others is passed over.
    """

    def __init__(self, path: Path | None, tree: str | None = None):
        self.path = path
        self.tree = tree or tree_sum()

    def read(self, seeds: int) -> Outcome:
        """What it holds of these sources; of the true code, what was measured for this many seeds."""
        outcome = Outcome()
        if self.path is not None and self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                if entry.get("tree") != self.tree:
                    continue
                if entry["kind"] == "verdict":
                    outcome.verdicts[entry["name"]] = _verdict(entry["result"])
                elif entry["result"]["seeds"] == seeds:
                    outcome.kept[entry["name"]] = Kept(**{**entry["result"], "broken": ()})
        return outcome

    def write(self, name: str, result: object) -> None:
        """Adds a verdict, or a promise that was kept, if it is good."""
        good = (
            result.seen is not None if isinstance(result, Verdict) else isinstance(result, Kept) and not result.broken
        )
        if self.path is None or not good:
            return
        assert isinstance(result, Verdict | Kept)
        kind = "verdict" if isinstance(result, Verdict) else "kept"
        entry = {"tree": self.tree, "kind": kind, "name": name, "result": asdict(result)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _verdict(entry: Mapping[str, Any]) -> Verdict:
    return Verdict(Seen(**entry["seen"]), entry["conventional"], entry["seconds"])
