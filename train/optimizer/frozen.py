"""Which parameters are trained: hub names and patterns, as the command line gives them."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from train.config import ConfigError
from vit_convert.layouts.native import hub_name


def partition(params: dict[str, Any], patterns: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(trained, frozen) of parameters by Flax path."""
    kept = frozen_names(patterns, map(hub_name, params))
    trained = {path: x for path, x in params.items() if hub_name(path) not in kept}
    return trained, {path: x for path, x in params.items() if path not in trained}


def frozen_names(patterns: Sequence[str], names: Iterable[str]) -> set[str]:
    """The hub names that patterns select. Of several that match a name the last decides, and one that begins with !
    takes a name out again, as in a .gitignore: ("*", "!head.*") freezes everything but the head.

    Raises:
        ConfigError: patterns that match no parameter, all named with what comes close; or nothing is left to train.
    """
    names = list(names)
    if unmatched := [p for p in patterns if not any(fnmatchcase(name, p.removeprefix("!")) for name in names)]:
        raise ConfigError("; ".join(f"optimizer.frozen: {_no_such(pattern, names)}" for pattern in unmatched))
    frozen: set[str] = set()
    for pattern in patterns:
        matching = {name for name in names if fnmatchcase(name, pattern.removeprefix("!"))}
        frozen = frozen - matching if pattern.startswith("!") else frozen | matching
    if frozen.issuperset(names):
        raise ConfigError(f"optimizer.frozen {' '.join(patterns)} leaves nothing to train; take out, say, '!head.*'")
    return frozen


def _no_such(pattern: str, names: Sequence[str]) -> str:
    """What to say of a pattern that matches nothing: names of parameters and of their modules that come close."""
    modules = {f"{name.rsplit('.', n)[0]}.*" for name in names for n in range(1, name.count(".") + 1)}
    close = get_close_matches(pattern.removeprefix("!"), [*names, *sorted(modules)], n=3, cutoff=0.5)
    hint = f"; close are {', '.join(close)}" if close else f"; names are such as {', '.join(names[:3])}"
    return f"{pattern!r} matches no parameter of this model{hint}"
