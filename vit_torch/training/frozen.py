"""Which parameters are not trained: hub names and patterns, as in a .gitignore."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase


def frozen_names(patterns: Sequence[str], names: Iterable[str]) -> set[str]:
    """The names that the patterns select: of those that match a name the last decides, and one that begins with ! says
    no. ("*", "!head.*") freezes everything but the head."""

    def frozen(name: str) -> bool:
        matching = [pattern for pattern in patterns if fnmatchcase(name, pattern.removeprefix("!"))]
        return bool(matching) and not matching[-1].startswith("!")

    return set(filter(frozen, names))
