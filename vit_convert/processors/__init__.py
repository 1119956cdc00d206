"""How other libraries write preprocessing down: one file per dialect, each to and from `Preprocess`.

`read` gives None for what `Preprocess` isn't; `write` gives None for what the dialect isn't, and otherwise the
nearest that it can say. `NEAR` are the fields in which that may differ, and `differences` says so in words.
"""

from dataclasses import fields

from vit_convert.preprocess import Preprocess

NEAR = ("antialias", "rounding", "crop_offset", "alpha")


def differences(dialect: str, ours: Preprocess, theirs: Preprocess | None) -> list[str]:
    """Notes for the user: what `dialect` says instead of a preprocessing, by reading back what was written."""
    if theirs is None:
        return [f"{dialect} can't say this preprocessing: it is left out"]
    pairs = [(f.name, getattr(ours, f.name), getattr(theirs, f.name)) for f in fields(Preprocess)]
    other = [f"{name} is {them!r}, not {us!r}" for name, us, them in pairs if us != them]
    return [f"{dialect} preprocesses a little differently: {', '.join(other)}"] if other else []
