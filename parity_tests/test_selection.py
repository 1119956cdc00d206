"""`quick` chooses cases by their names, and leaves none out of `make test-all`, which runs."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from parity_tests.selection import quick

ROOT = Path(__file__).parent.parent


def marked(params: list) -> dict[str, tuple[tuple, bool]]:
    return {param.id: (param.values, bool(param.marks)) for param in params}


def test_all_cases_are_there_and_those_that_are_not_kept_are_slow():
    assert marked(quick(["a", "b"], ["b"])) == {"a": (("a",), True), "b": (("b",), False)}
    assert marked(quick({"a": 1, "b": 2}, ["a"])) == {"a": ((1,), False), "b": ((2,), True)}
    assert marked(quick([("a", 1), ("b", 2)], [("b", 2)])) == {"a-1": (("a", 1), True), "b-2": (("b", 2), False)}


def test_a_case_that_is_gone_cannot_be_kept():
    with pytest.raises(ValueError, match=r"no such case: \['c'\]; there are \['a', 'b'\]"):
        quick(["a", "b"], ["c"])


@pytest.mark.parametrize("target", quick(["test", "test-all"], []))
def test_make_runs_pytest_with_options_that_it_knows(target: str):
    """Options of our own that come before a value alone (`--examples 24`) are not known yet when pytest looks for
    tests: it takes the value for a path."""
    env = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    given = ["make", "-n", target, "PYTEST_ARGS=-p no:cacheprovider"]
    text = subprocess.run(given, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in text.splitlines() if " -m pytest " in line]
    command = [sys.executable, *shlex.split(line.partition("python ")[2])]
    done = subprocess.run(
        [*command, "--collect-only", "--ignore-glob=*/test_*.py"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stderr
