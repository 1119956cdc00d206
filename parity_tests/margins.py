"""docs/parity.md: each promise, its tolerance, the reason and the worst that was seen, made from a run of the tests.

    python -m pytest parity_tests -n auto -m "not published" --margins DIR
    python -m parity_tests.margins DIR

The first writes what every test measured into DIR (record.py), the second makes the page of it.
"""

import argparse
import ast
import json
import math
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

from parity_tests import tolerances
from parity_tests.bound import Bound
from parity_tests.record import Figure
from vit_convert.beside import beside

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "parity.md"
BOUNDS = {name: value for name, value in vars(tolerances).items() if isinstance(value, Bound)}
LIBRARIES = ("torch", "jax", "flax", "timm", "transformers")
WIDTH = 115  # of a note's lines
NEAR = 0.95  # margins from here on need a third digit


class MarginsError(Exception):
    """What was recorded makes no page; the message says why."""


def read(sources: Sequence[Path]) -> list[Figure]:
    """The figures of files, or of folders of them, that `pytest --margins DIR` wrote.

    Raises:
        MarginsError: nothing is there, a line is no record, or a test failed.
    """
    files = [file for source in sources for file in (sorted(source.glob("*.jsonl")) if source.is_dir() else [source])]
    rows = [_row(file, line) for file in files for line in _lines(file)]
    if failed := sorted({row["test"] for row in rows if "failed" in row}):
        raise MarginsError(f"{len(failed)} of the recorded tests failed, the first is {failed[0]}: mend that first")
    if not rows:
        raise MarginsError(f"no figures in {', '.join(map(str, sources))}: run pytest --margins DIR, and give that DIR")
    try:
        figures = [Figure(**row) for row in rows]
    except TypeError as error:
        raise MarginsError(f"a line is no record of pytest --margins: {error}") from None
    if unknown := sorted({figure.bound for figure in figures} - BOUNDS.keys()):
        raise MarginsError(f"tolerances.py has no {', '.join(unknown)}: the record is of other tests, make it anew")
    return figures


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise MarginsError(f"{file}: {error.strerror}") from None


def _row(file: Path, line: str) -> dict:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or "test" not in row:
        raise MarginsError(f"{file}: a line is no record of pytest --margins: {line[:60]!r}")
    return row


def page(figures: Sequence[Figure], note: str = "") -> str:
    """The whole page, in Markdown.

    Args:
        note: what else there is to say of the run, a paragraph after the commands.
    """
    found = {name: [f for f in figures if f.bound == name] for name in BOUNDS}
    sections = [section(bound, found[name]) for name, bound in BOUNDS.items()]
    said = [*textwrap.wrap(note, WIDTH, break_long_words=False, break_on_hyphens=False), ""] if note.strip() else []
    return "\n".join([COMMANDS, "", *said, READING, versions(), "", *summary(found), "", *sections])


COMMANDS = """# How near the proof comes to its tolerances

Made by `python -m parity_tests.margins` from what the tests measured; not written by hand:

    python -m pytest parity_tests -n auto -m "not published" --margins DIR
    python -m parity_tests.margins DIR"""

READING = """\
A margin is the worst that was seen, over the tolerance: 0.01 leaves two digits, and at 1 the test fails. The
tolerances and their reasons are those of [parity_tests/tolerances.py](../parity_tests/tolerances.py); no test of
rounding has a number of its own. Any row again: `python -m pytest parity_tests/FILE`. Tests that plant a mistake are
left out."""


def versions() -> str:
    """What was measured with."""
    return "Measured on a CPU with " + ", ".join(f"{name} {version(name)}" for name in LIBRARIES) + "."


def summary(found: dict[str, list[Figure]]) -> list[str]:
    """One row a tolerance: its worst."""
    lines = ["| tolerance | | worst seen | margin | where |", "|---|---|---|---|---|"]
    for name, figures in found.items():
        if figures:
            worst = max(figures, key=lambda figure: figure.margin)
            lines.append(
                f"| [{name}](#{name.lower()}) | {number(worst.limit)} | {_measured(worst)} | {file_of(worst)} |"
            )
        else:
            lines.append(f"| [{name}](#{name.lower()}) | {number(BOUNDS[name])} | - | - | - |")
    return lines


def heading(bound: Bound) -> str:
    """A tolerance's name, number and reason."""
    return f"## {bound.name}\n\n{number(bound)}. {bound.reason}\n"


def section(bound: Bound, figures: Sequence[Figure]) -> str:
    """A tolerance, and one row for each file of tests that holds something against it."""
    lines = [heading(bound)]
    if figures:
        lines += ["| promise | file | comparisons | worst seen | margin |", "|---|---|---|---|---|"]
    for file, group in groupby(sorted(figures, key=file_of), key=file_of):
        same = list(group)
        worst = max(same, key=lambda figure: figure.margin)
        lines.append(f"| {promise(file)} | {file} | {sum(f.count for f in same):,} | {_measured(worst)} |")
    if silent := sorted(users(bound.name) - {file_of(figure) for figure in figures}):
        lines += [""] * bool(figures) + [f"Used without a figure here: {', '.join(silent)}."]
    return "\n".join(lines) + "\n"


def _measured(figure: Figure) -> str:
    """The cells of the worst and its margin; a bound that depends on a size is named beside it."""
    of = "" if figure.limit == BOUNDS[figure.bound] else f" of {number(figure.limit)}"
    found = number(figure.found) if figure.margin < NEAR else f"{figure.found:.3g}"
    return f"{found}{of} | {margin(figure.margin)}"


def number(x: float) -> str:
    return f"{x:.2g}"


def margin(x: float) -> str:
    """Near 1 with three digits, cut and not rounded: what says 1 is 1."""
    return number(x) if x < NEAR else f"{math.floor(1000 * x) / 1000:.3g}" if x < 1 else f"{x:.3g}"


def file_of(figure: Figure) -> str:
    return Path(figure.test.partition("::")[0]).name


def promise(file: str) -> str:
    """What a file of tests holds: the first sentence of its docstring."""
    return sentence(ast.get_docstring(ast.parse((TESTS / file).read_text(encoding="utf-8"))) or "").replace("|", "\\|")


def sentence(text: str) -> str:
    """The first of a text, in one line: up to its full stop, or to the first blank line."""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=[.])\s", paragraph, maxsplit=1)[0]


def users(name: str) -> set[str]:
    """The modules of the suite, but for tolerances.py, that import this name from it."""
    return {path.name for path in TESTS.glob("*.py") if name in imported(path)}


@cache
def imported(path: Path) -> set[str]:
    """The names that a module imports from tolerances.py."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return {alias.name for node in modules if node.module == tolerances.__name__ for alias in node.names}


def main(arguments: Iterable[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="margins", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, nargs="+", help="what pytest --margins wrote: folders or files")
    parser.add_argument("--output", type=Path, default=PAGE, help="the page (default: docs/parity.md)")
    parser.add_argument("--note", default="", help="what to say of the run: a paragraph after the commands")
    given = parser.parse_args(None if arguments is None else list(arguments))
    try:
        made = page(read(given.source), given.note)
    except MarginsError as error:
        print(f"margins: error: {error}", file=sys.stderr)
        sys.exit(2)
    with beside(given.output) as temporary:
        temporary.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
