"""What the value of a setting may be, in words and as a check."""

from collections.abc import Callable
from math import isfinite
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """What a value has to be."""

    words: str
    holds: Callable[[Any], bool]


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number: true and false are none."""
    return type(value) in (int, float) and isfinite(value)


def is_whole(value: Any) -> bool:
    return type(value) is int


def one_of(*values: Any) -> Kind:
    """One of these; numbers and switches by their own types, for 0 is not false."""

    def holds(value: Any) -> bool:
        return any(value == v and isinstance(value, bool) == isinstance(v, bool) for v in values)

    return Kind(" or ".join(map(str, values)), holds)


def optional(kind: Kind) -> Kind:
    """That kind, or nothing."""
    return Kind(f"{kind.words}, or null", lambda value: value is None or kind.holds(value))


def each(kind: Kind, words: str) -> Kind:
    """A list of that kind."""
    return Kind(words, lambda value: isinstance(value, list) and all(map(kind.holds, value)))


NUMBER = Kind("a number", is_number)
POSITIVE = Kind("a positive number", lambda value: is_number(value) and value > 0)
NOT_NEGATIVE = Kind("a number of at least 0", lambda value: is_number(value) and value >= 0)
SHARE = Kind("a number in [0, 1)", lambda value: is_number(value) and 0 <= value < 1)
PART = Kind("a number in [0, 1]", lambda value: is_number(value) and 0 <= value <= 1)
DECAY = Kind("a number in (0, 1]", lambda value: is_number(value) and 0 < value <= 1)
WHOLE = Kind("a whole number of at least 0", lambda value: is_whole(value) and value >= 0)
SEED = Kind("a whole number in [0, 2^32)", lambda value: is_whole(value) and 0 <= value < 2**32)  # as in vit-train
COUNT = Kind("a whole number of at least 1", lambda value: is_whole(value) and value >= 1)
SWITCH = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = Kind("a name", lambda value: isinstance(value, str) and bool(value))
NUMBERS = each(NUMBER, "numbers")
POSITIVES = each(POSITIVE, "positive numbers")
NAMES = each(TEXT, "names")
