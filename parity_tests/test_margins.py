"""Every tolerance has a reason, a use and its margin in docs/parity.md, and no test has a tolerance of its own."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from parity_tests import margins, tolerances
from parity_tests.bound import Bound
from parity_tests.compare import apart, elementwise
from parity_tests.margins import BOUNDS, PAGE, TESTS, MarginsError, page, read
from parity_tests.record import Figure

# What is smaller than this beside a comparison is a tolerance of rounding. Statistics and sizes are larger.
ROUNDING = 2e-4
KEYWORDS = {"abs", "rel", "atol", "rtol", "tolerance"}


@pytest.mark.parametrize("name", [name for name in vars(tolerances) if name.isupper() and name != "TORCHVISION_LEVELS"])
def test_each_tolerance_has_its_name_and_a_reason_and_is_used(name: str):
    bound = BOUNDS[name]
    assert bound.name == name
    assert float(bound) > 0
    assert bound.reason.endswith((".", ".)"))
    files = [path for path in TESTS.rglob("*.py") if path.name != "tolerances.py"]
    named = [path.name for path in files if re.search(rf"\b{name}\b", path.read_text(encoding="utf-8"))]
    through = re.findall(rf"\b{name}\b", (TESTS / "tolerances.py").read_text(encoding="utf-8"))
    assert named or len(through) > 2, f"nothing uses {name}"  # its definition alone names it twice


@pytest.mark.parametrize("name", BOUNDS)
def test_docs_parity_says_each_tolerance_and_why(name: str):
    """Made anew by `python -m parity_tests.margins`."""
    assert margins.heading(BOUNDS[name]) in PAGE.read_text(encoding="utf-8")


def test_docs_parity_names_files_that_are_there_and_what_they_promise():
    rows = re.findall(r"^\| (.+) \| (test_\w+\.py) \| [\d,]+ \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) > 20
    assert {file: said for said, file in rows} == {file: margins.promise(file) for _, file in rows}


def bare(tree: ast.AST) -> Iterator[ast.expr]:
    """Numbers that serve as tolerances: `x < 1e-6`, `rel=1e-12`, `2**-23` too; and what pytest.approx and NumPy's
    assert_allclose have unasked. The latter has an rtol beside any atol, and shows no bound what was found: nothing
    but a statistic's number may be given to it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = zip(node.ops, node.comparators, strict=True)
            yield from (side for op, side in sides if isinstance(op, (ast.Lt, ast.LtE)) and small(side))
        elif isinstance(node, ast.keyword) and node.arg in KEYWORDS and small(node.value):
            yield node.value
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("approx"):
            yield from () if KEYWORDS & {keyword.arg for keyword in node.keywords} else (node,)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("assert_allclose"):
            given = [keyword.value for keyword in node.keywords if keyword.arg in KEYWORDS]
            yield from () if given and all(isinstance(value, ast.Constant) for value in given) else (node,)


def small(node: ast.expr) -> bool:
    """Whether an expression is made of numbers alone, and of a size that only rounding has."""
    arithmetic = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop)
    if not all(isinstance(part, arithmetic) for part in ast.walk(node)):
        return False
    value = eval(compile(ast.Expression(node), "", "eval"), {})  # numbers and operators alone
    return isinstance(value, (int, float)) and 0 < abs(value) < ROUNDING


@pytest.mark.parametrize("file", sorted(str(path.relative_to(TESTS)) for path in TESTS.rglob("*.py")))
def test_no_file_has_a_tolerance_of_its_own(file: str):
    found = [f"{file}:{node.lineno}" for node in bare(ast.parse((TESTS / file).read_text(encoding="utf-8")))]
    assert not found, f"name these in tolerances.py, with the reason: {', '.join(found)}"


@pytest.mark.parametrize(
    "text",
    [
        "assert x < 1e-6",
        "assert 0 <= x <= 4 * 2.0**-24",
        "approx(x, rel=1e-12)",
        "pytest.approx(x)",
        "np.testing.assert_allclose(x, y)",
        "np.testing.assert_allclose(x, y, atol=FLOAT32)",
        "assert_allclose(x, y, rtol=1e-6)",
    ],
)
def test_such_a_number_is_found(text: str):
    assert len(list(bare(ast.parse(text)))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "assert x < 0.05",
        "assert p > 1e-5",
        "f(eps=1e-6)",
        "assert x < y",
        "assert x < -1",
        "assert_allclose(x, y, atol=0.03)",
    ],
)
def test_other_numbers_are_none(text: str):
    assert not list(bare(ast.parse(text)))


CONFTEST = """
from pathlib import Path
from parity_tests.record import Recorder
def pytest_configure(config):
    config.pluginmanager.register(Recorder(Path("margins")))
"""
PROMISE = '''"""It holds."""
import numpy as np
import pytest
from parity_tests.tolerances import EXACT, FORWARD, resampled
def check(x):
    assert x < FORWARD
    assert x <= EXACT
@pytest.mark.parametrize("x", [1e-14, 3e-14])
def test_promise(x):
    check(x)
    check(x / 2)
def test_a_size(): assert 1e-7 <= resampled((3, 5))
def test_a_mistake_is_seen():
    check(2e-13)
    with pytest.raises(AssertionError): check(1e-3)
'''


def recorded(folder: Path, text: str, *options: str) -> tuple[int, Path]:
    """(pytest's exit code, the folder of what it wrote)."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_promise.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "test_promise.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, folder / "margins"


@pytest.mark.parametrize(
    "options", [(), pytest.param(("-n", "2"), marks=pytest.mark.slow)], ids=["alone", "by two workers"]
)
def test_a_run_writes_the_worst_of_each_test_that_passes_and_plants_nothing(tmp_path: Path, options: tuple[str, ...]):
    code, written = recorded(tmp_path, PROMISE, *options)
    assert code == 0
    assert sorted(read([written]), key=lambda f: (f.bound, f.test)) == [
        Figure("test_promise.py::test_promise[1e-14]", "EXACT", 1e-14, 1e-12, 2),
        Figure("test_promise.py::test_promise[3e-14]", "EXACT", 3e-14, 1e-12, 2),
        Figure("test_promise.py::test_promise[1e-14]", "FORWARD", 1e-14, 1e-12, 2),
        Figure("test_promise.py::test_promise[3e-14]", "FORWARD", 3e-14, 1e-12, 2),
        Figure("test_promise.py::test_a_size", "POSITION", 1e-7, tolerances.resampled((3, 5)), 1),
    ]


@pytest.mark.slow
def test_a_run_that_fails_makes_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code, written = recorded(tmp_path, PROMISE + "def test_broken(): assert 1e-3 < FORWARD\n")
    assert code == 1
    (tmp_path / "page.md").write_text("as it was")
    with pytest.raises(SystemExit) as stop:
        margins.main([str(written), "--output", str(tmp_path / "page.md")])
    assert stop.value.code == 2
    assert "1 of the recorded tests failed, the first is test_promise.py::test_broken" in capsys.readouterr().err
    assert (tmp_path / "page.md").read_text() == "as it was"


def test_the_page_has_the_worst_of_each_file_and_tolerance(tmp_path: Path):
    """A bound that depends on a size is judged by its own number."""
    figures = [
        Figure("parity_tests/test_peers.py::test_a", "FORWARD", 1e-14, 1e-12, 1),
        Figure("parity_tests/test_peers.py::test_b[x]", "FORWARD", 5e-14, 1e-12, 1500),
        Figure("parity_tests/test_processors.py::test_c", "POSITION", 1e-6, 1e-5, 1),
        Figure("parity_tests/test_processors.py::test_d", "POSITION", 9e-7, 1e-6, 2),
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(vars(figure)) + "\n" for figure in figures[:2]))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(vars(figure)) + "\n" for figure in figures[2:]))
    margins.main([str(tmp_path), "--output", str(tmp_path / "page.md")])
    made = (tmp_path / "page.md").read_text()
    assert made == page(figures)
    assert f"| {margins.promise('test_peers.py')} | test_peers.py | 1,501 | 5e-14 | 0.05 |" in made
    assert f"| {margins.promise('test_processors.py')} | test_processors.py | 3 | 9e-07 of 1e-06 | 0.9 |" in made
    assert "| [FORWARD](#forward) | 1e-12 | 5e-14 | 0.05 | test_peers.py |" in made
    assert "Used without a figure here: noise.py, " in made.split("## NOISE_RATIO")[1].split("## ")[0]


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path):
    figure = Figure("parity_tests/test_peers.py::test_a", "FORWARD", 1e-14, 1e-12, 1)
    (tmp_path / "record").write_text(json.dumps(vars(figure)) + "\n")
    (tmp_path / "page.md").mkdir()  # nothing can be renamed to it
    with pytest.raises(OSError, match=r"page\.md"):
        margins.main([str(tmp_path / "record"), "--output", str(tmp_path / "page.md")])
    assert {path.name for path in tmp_path.iterdir()} == {"record", "page.md"}


def test_a_note_is_a_paragraph_after_the_commands(tmp_path: Path):
    figure = Figure("parity_tests/test_peers.py::test_a", "FORWARD", 1e-14, 1e-12, 1)
    (tmp_path / "a.jsonl").write_text(json.dumps(vars(figure)))
    note = "One whole run, of " + ", ".join(f"this test and that-one {i}" for i in range(9)) + "."
    margins.main([str(tmp_path), "--output", str(tmp_path / "page.md"), "--note", note])
    before, said, after = (tmp_path / "page.md").read_text().split("\n\n", 4)[2:]
    assert before.endswith("python -m parity_tests.margins DIR")
    assert said.replace("\n", " ") == note
    assert max(map(len, said.splitlines())) <= 120
    assert page([figure]).endswith(f"{before}\n\n{after}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It holds.\n\nAnd more. Still more.", "It holds."),
        ("It holds, and over two\nlines. Here is more.", "It holds, and over two lines."),
        ("Of margins.py, to 1.5 of it\n\nMore.", "Of margins.py, to 1.5 of it"),
        ("", ""),
    ],
)
def test_a_promise_is_a_whole_sentence(text: str, expected: str):
    assert margins.sentence(text) == expected


def test_every_promise_of_the_suite_ends():
    files = [path.name for path in TESTS.glob("test_*.py")]
    assert {file for file in files if not margins.promise(file).endswith((".", "?"))} == set()


@pytest.mark.parametrize(
    ("margin", "shown"), [(0.0123, "0.012"), (0.5, "0.5"), (0.95, "0.95"), (0.9884, "0.988"), (0.99999, "0.999")]
)
def test_a_margin_near_one_has_three_digits_and_is_one_only_at_one(margin: float, shown: str):
    assert margins.margin(margin) == shown
    assert margins.margin(1.0) == "1"
    figure = Figure("parity_tests/test_peers.py::test_a", "NOISE_RATIO", 1.4826, 1.5, 1)
    assert "| 1.48 | 0.988 | test_peers.py |" in page([figure])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no figures in .*: run pytest --margins DIR"),
        ("half a li", "a line is no record of pytest --margins: 'half a li'"),
        ('{"test": "a", "found": 1}', "a line is no record of pytest --margins: .*missing"),
        ('{"test": "a", "bound": "OLD", "found": 1, "limit": 2, "count": 1}', "tolerances.py has no OLD"),
        (None, "No such file"),
    ],
)
def test_what_is_no_record_is_said(tmp_path: Path, text: str | None, message: str):
    if text is not None:
        (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(MarginsError, match=message):
        read([tmp_path / "a.jsonl"])


def test_a_bound_is_a_number_to_all_that_compute_with_it():
    bound = Bound("X", 1e-3, "because.")
    assert (2 * bound, bound.at(5.0).name, f"{bound:g}") == (2e-3, "X", "0.001")
    below, at, above = 1e-4, 1e-3, 2
    assert (below < bound, at < bound, at <= bound, above <= bound) == (True, False, True, False)


def test_differences_as_they_are_and_of_each_value():
    assert apart([1.0, 2.0], [1.5, 2.0]) == 0.5
    assert elementwise([1.0, 0.0, -2.0], [4.0, 0.0, -2.0]) == 0.75
    assert elementwise([1.0], [0.0]) == np.inf
    for measure in (apart, elementwise):
        with pytest.raises(AssertionError, match="shapes differ"):
            measure([1.0], [1.0, 2.0])
        with pytest.raises(AssertionError, match="not finite"):
            measure([np.nan], [1.0])
