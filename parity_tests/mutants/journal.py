"""Verdicts as they come, a JSON line each: a run that was stopped goes on from them."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from parity_tests.mutants.judge import Kept, Seen, Verdict
from parity_tests.mutants.outcome import Outcome


class Journal:
    """A file of good verdicts: what survived, alarmed or crashed is asked again.

    Args:
        path: of the file, of one state of the code; None: nothing is remembered.
    """

    def __init__(self, path: Path | None):
        self.path = path

    def read(self, seeds: int) -> Outcome:
        """What it holds; of the true code, what was asked for this many seeds."""
        outcome = Outcome()
        if self.path is not None and self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
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
        entry = {"kind": "verdict" if isinstance(result, Verdict) else "kept", "name": name, "result": asdict(result)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _verdict(entry: Mapping[str, Any]) -> Verdict:
    return Verdict(Seen(**entry["seen"]), entry["conventional"], entry["seconds"])
