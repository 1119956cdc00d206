"""Whether a value of JSON is of the type that a setting has: "false" is no switch, and 64.5 no number of images."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin


def fits(hint: Any, value: Any) -> bool:
    """Whether the value is of that type, exactly: true is no number, and a whole number is a number."""
    kind, args = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(fits(one, value) for one in args)
    if kind is Literal:
        return any(type(value) is type(one) and value == one for one in args)
    if kind is tuple:  # of any length
        return isinstance(value, list | tuple) and all(fits(args[0], one) for one in value)
    if is_dataclass(hint):
        return isinstance(value, Mapping)
    if hint is Path:
        return isinstance(value, str)
    return type(value) in ((int, float) if hint is float else (hint,))


def words(hint: Any) -> str:
    """The type, as a message names it."""
    kind, args = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return " or ".join(map(words, args))
    if kind is Literal:
        return " or ".join(f'"{one}"' for one in args)
    if kind is tuple:
        return f"a list, each {words(args[0])}"
    if is_dataclass(hint):
        return "an object"
    return WORDS[hint]


WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path", NoneType: "null"}
