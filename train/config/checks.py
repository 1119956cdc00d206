"""What a config's values have to be: each check is (holds, message), and all that don't hold are named at once."""

from collections.abc import Iterable
from math import inf

Check = tuple[bool, str]


class ConfigError(ValueError):
    """The user asked for something that cannot be run; the message says what to change."""


def check_all(checks: Iterable[Check]) -> None:
    """
    Raises:
        ConfigError: naming every check that doesn't hold.
    """
    if wrong := [message for holds, message in checks if not holds]:
        raise ConfigError("; ".join(wrong))


def at_least(name: str, value: float | None, least: float) -> Check:
    """value >= least and finite, or no value."""
    holds = value is None or least <= value < inf
    return holds, f"{name} must be at least {least}{' and finite' * (value == inf)}, got {value}"


def share(name: str, value: float | None, *, one: bool = False) -> Check:
    """value in [0, 1), with `one` in [0, 1], or no value."""
    holds = value is None or 0 <= value < 1 or (one and value == 1)
    return holds, f"{name} must be in [0, 1{']' if one else ')'}, got {value}"


def positive(name: str, value: float | None) -> Check:
    """value > 0 and finite, or no value."""
    return value is None or 0 < value < inf, f"{name} must be positive{' and finite' * (value == inf)}, got {value}"
