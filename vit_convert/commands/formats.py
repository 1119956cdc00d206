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
        _print(name, LAYOUTS[name].summary, _holds(LAYOUTS[name].limits))
    for name, layouts in LIBRARIES.items():
        _print(name, f"the first of these that holds the model: {', '.join(layout.name for layout in layouts)}")
    return 0


def _print(name: str, *texts: str) -> None:
    print(name)
    for text in texts:
        print(fill(text, 110, initial_indent="    ", subsequent_indent="    "))


def _holds(limits: Mapping[str, tuple[Any, ...]]) -> str:
    """Fields that a layout has in some values only; True and False as one types them."""
    if not limits:
        return "holds every model"
    texts = (f"{field} {'|'.join(str(value).lower() for value in values)}" for field, values in limits.items())
    return f"only {', '.join(texts)}"
