"""Which cases of a test `make test` runs: the others repeat its proof in more cases, and are slow."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pytest


def quick(cases: Iterable[Any] | Mapping[str, Any], kept: Collection[Any]) -> list[Any]:
    """Parameters of a test, in their order; of a mapping its values, with its names as ids.

    Args:
        cases: all of them; a tuple is a case of several arguments.
        kept: those that stay quick: of a mapping its names. Each has to be a case.
    """
    named = cases if isinstance(cases, Mapping) else {case: case for case in cases}
    if strange := [name for name in kept if name not in named]:
        raise ValueError(f"no such case: {strange}; there are {list(named)}")
    return [_param(name, case, slow=name not in kept) for name, case in named.items()]


def _param(name: Any, case: Any, *, slow: bool) -> Any:
    several = isinstance(name, tuple)
    said = "-".join(map(str, name)) if several else str(name)
    return pytest.param(*case if several else (case,), id=said, marks=pytest.mark.slow if slow else ())
