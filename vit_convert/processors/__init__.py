"""How other libraries write preprocessing down: one file per dialect, each to and from `Preprocess`.

`read` gives None for what `Preprocess` isn't; `write` gives None for what the dialect isn't, and otherwise the
nearest that it can say. `NEAR` are the fields in which that may differ, and `differences` says so in words.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from vit_convert.preprocess import Preprocess

NEAR = ("antialias", "rounding", "crop_offset", "alpha")


def unread(where: str, said: Mapping[str, Any], preprocess: Preprocess | None) -> str:
    """A note for the user where a file says how images are prepared and that isn't read; else nothing.

    Args:
        said: what may be why it isn't.
        preprocess: what was read of it.
    """
    if preprocess or not said:
        return ""
    text = json.dumps(said)
    shown = text if len(text) <= 200 else f"{text[:200]}..."
    return f"how images are prepared stays unknown: {where} says it in a way that is not read: {shown}"


def differences(dialect: str, ours: Preprocess, theirs: Preprocess | None) -> list[str]:
    """Notes for the user: what `dialect` says instead of a preprocessing, by reading back what was written."""
    if theirs is None:
        return [f"{dialect} can't say this preprocessing: it is left out"]
    pairs = [(f.name, getattr(ours, f.name), getattr(theirs, f.name)) for f in fields(Preprocess)]
    other = [f"{name} is {them!r}, not {us!r}" for name, us, them in pairs if us != them]
    return [f"{dialect} preprocesses a little differently: {', '.join(other)}"] if other else []
