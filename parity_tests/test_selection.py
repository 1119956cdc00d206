"""`quick` chooses cases by their names, and leaves none out of `make test-all`."""

import pytest

from parity_tests.selection import quick


def marked(params: list) -> dict[str, tuple[tuple, bool]]:
    return {param.id: (param.values, bool(param.marks)) for param in params}


def test_all_cases_are_there_and_those_that_are_not_kept_are_slow():
    assert marked(quick(["a", "b"], ["b"])) == {"a": (("a",), True), "b": (("b",), False)}
    assert marked(quick({"a": 1, "b": 2}, ["a"])) == {"a": ((1,), False), "b": ((2,), True)}
    assert marked(quick([("a", 1), ("b", 2)], [("b", 2)])) == {"a-1": (("a", 1), True), "b-2": (("b", 2), False)}


def test_a_case_that_is_gone_cannot_be_kept():
    with pytest.raises(ValueError, match=r"no such case: \['c'\]; there are \['a', 'b'\]"):
        quick(["a", "b"], ["c"])
