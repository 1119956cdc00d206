"""vit-convert formats: the layouts, and what each can hold."""

from collections.abc import Sequence

from vit_convert.commands.arguments import make_parser


def run(arguments: Sequence[str]) -> int:
    """formats"""
    make_parser("vit-convert formats", "Lists the layouts that --to takes, and what each can hold.").parse_args(
        arguments
    )
    from vit_convert.layouts import LAYOUTS, LIBRARIES

    for name in sorted(LAYOUTS):
        print(f"{name}\n    {LAYOUTS[name].summary}\n    {_holds(LAYOUTS[name].limits)}")
    for name, layouts in LIBRARIES.items():
        print(f"{name}\n    the first of these that holds the model: {', '.join(x.name for x in layouts)}")
    return 0


def _holds(limits: dict) -> str:
    """Fields that a layout has in some values only; True and False as one types them."""
    if not limits:
        return "holds every model"
    texts = (f"{field} {'|'.join(str(value).lower() for value in values)}" for field, values in limits.items())
    return f"only {', '.join(texts)}"
