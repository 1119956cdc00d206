"""A tolerance of the suite: a number with a name and a reason, that can say what was held against it."""

from collections.abc import Callable
from typing import ClassVar, Self


class Bound(float):
    """The largest difference that is still rounding.

    A promise's assertion is `found < BOUND` or `found <= BOUND`. Python lets the right side answer first where its
    class is derived from the left side's (the data model's rich comparisons), so whatever float is held against a
    bound comes by here, and `listener` hears of it. NumPy's scalars and arrays answer for themselves: pass a float.

    Args:
        name: as tolerances.py calls it.
        value: the number.
        reason: why it is this number; one or more sentences of Markdown.
    """

    listener: ClassVar[Callable[["Bound", float, bool], None] | None] = None

    name: str
    reason: str

    def __new__(cls, name: str, value: float, reason: str) -> Self:
        self = super().__new__(cls, value)
        self.name, self.reason = name, reason
        return self

    def __getnewargs__(self) -> tuple[str, float, str]:  # type: ignore[override]  # for copies: what __new__ takes
        return self.name, float(self), self.reason

    def at(self, value: float) -> "Bound":
        """The same bound where it depends on a size: another number under this name."""
        return Bound(self.name, value, self.reason)

    def __gt__(self, found: float) -> bool:
        return self._told(found, super().__gt__(found))

    def __ge__(self, found: float) -> bool:
        return self._told(found, super().__ge__(found))

    def _told(self, found: float, holds: bool) -> bool:
        if Bound.listener is not None and isinstance(found, (int, float)):
            Bound.listener(self, float(found), holds)
        return holds
