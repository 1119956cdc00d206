"""The one error for everything that can be wrong with a user's checkpoint."""

from collections.abc import Sequence


class CheckpointError(ValueError):
    """A checkpoint can't be read or written: says the thing, what was expected, what came, what to do."""


def some(texts: Sequence[str], between: str = "\n    ", most: int = 10) -> str:
    """The first texts of a list, and how many more there are: a wall of names hides the others."""
    more = [f"and {len(texts) - most} more"] * (len(texts) > most)
    return between.join([*texts[:most], *more])
