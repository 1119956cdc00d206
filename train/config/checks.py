"""What a config's values have to be: each check is (holds, message), and all that don't hold are named at once."""

from collections.abc import Iterable

Check = tuple[bool, str]
MOST = 3e38  # of float32, rounded down
COUNTED = 2**31  # steps are an int32 on the devices


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
    holds = value is None or least <= value <= MOST
    return holds, f"{name} must be at least {least}{_and_finite(value)}, got {_short(value)}"


def finite(name: str, values: Iterable[float]) -> Check:
    """Numbers that float32 has."""
    wrong = [value for value in values if not abs(value) <= MOST]
    return not wrong, f"{name} must be finite, got {', '.join(map(_short, wrong))}"


def below(name: str, value: float | None, limit: int = COUNTED) -> Check:
    """value < limit, or no value."""
    return value is None or not value >= limit, f"{name} must be less than {limit:,}, got {_short(value)}"


def share(name: str, value: float | None, *, one: bool = False) -> Check:
    """value in [0, 1), with `one` in [0, 1], or no value."""
    holds = value is None or 0 <= value < 1 or (one and value == 1)
    return holds, f"{name} must be in [0, 1{']' if one else ')'}, got {value}"


def positive(name: str, value: float | None) -> Check:
    """value > 0 and finite, or no value."""
    holds = value is None or 0 < value <= MOST
    return holds, f"{name} must be positive{_and_finite(value)}, got {_short(value)}"


def _and_finite(value: float | None) -> str:
    return " and finite" if value is not None and value > MOST else ""


def _short(value: float | None) -> str:
    return str(value) if len(str(value)) < 40 else f"{str(value)[:30]}... ({len(str(value))} digits)"
