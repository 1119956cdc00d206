"""vit-convert formats: the layouts, and what each can hold."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from vit_convert.commands.arguments import make_parser


def run(arguments: Sequence[str]) -> int:
    """formats"""
    parser = make_parser("vit-convert formats", "Lists the layouts that --to takes, and what each can hold.")
    parser.parse_args(arguments)
    from vit_convert.layouts import LAYOUTS, LIBRARIES

    for name in sorted(LAYOUTS):
        _print(name, LAYOUTS[name].summary, *_holds(LAYOUTS[name].limits))
    for name, layouts in LIBRARIES.items():
        _print(name, f"the first of these that holds the model: {', '.join(layout.name for layout in layouts)}")
    return 0


def _print(name: str, *texts: str) -> None:
    print(name)
    for text in texts:
        print(fill(text, 110, initial_indent="    ", subsequent_indent="    "))


def _holds(limits: Mapping[str, tuple[Any, ...]]) -> list[str]:
    """Fields that a layout has in some values only: those it always has, never has, and has in these values alone."""
    if not limits:
        return ["holds every model"]
    groups: dict[str, list[str]] = {"always": [], "never": [], "only": []}
    for field, values in limits.items():
        texts = [str(value).lower() for value in values]
        if texts == ["true"]:
            groups["always"].append(field)
        elif texts in (["false"], ["0"], ["none"]):
            groups["never"].append(field)
        else:
            groups["only"].append(f"{field} {'|'.join(texts)}")
    return [f"{word} {', '.join(fields)}" for word, fields in groups.items() if fields]
