"""The README's table of families, made from parity_tests/families by `python -m parity_tests.families_table`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity_tests.peers import import_torchvision

if TYPE_CHECKING:
    from parity_tests.families import Family

ROOT = Path(__file__).resolve().parent.parent
README, PUBLISHED = ROOT / "README.md", ROOT / "docs" / "published.json"
BEGIN, END = "<!-- families: python -m parity_tests.families_table -->\n", "<!-- /families -->\n"


def table(published: dict[str, Any]) -> str:
    """One row a layout and real class, with all its families."""
    import_torchvision()  # before the families import what needs it
    from parity_tests.families import FAMILIES

    rows: dict[tuple[str, str], list[Family]] = {}
    for family in FAMILIES:
        rows.setdefault((family.layout, family.real), []).append(family)
    lines = [
        "| layout | families | the real class that they are verified against | published weights |",
        "|---|---|---|---|",
    ]
    for (layout, real), families in rows.items():
        names = "; ".join(dict.fromkeys(family.name for family in families))
        lines.append(f"| `{layout}` | {names} | {real} | {_published(families, published)} |")
    return "\n".join(lines) + "\n"


def _published(families: list["Family"], published: dict[str, Any]) -> str:
    """Hub names whose weights someone has run, and the margin seen: docs/published.json, by `make test-published`."""
    here = {(family.layout, family.name) for family in families}
    found = [(name, entry) for name, entry in published.items() if (entry["layout"], entry["family"]) in here]
    return "; ".join(f"{name} ({max(entry['gaps'].values()):.0e})" for name, entry in found) or "not run"


def with_table(readme: str) -> str:
    """The README with its table made anew."""
    before, rest = readme.split(BEGIN)
    published = json.loads(PUBLISHED.read_text(encoding="utf-8")) if PUBLISHED.exists() else {}
    return before + BEGIN + table(published) + END + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
