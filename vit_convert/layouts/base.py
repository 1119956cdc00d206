"""What a layout is: its table, how it is recognised, and how its config is read and written."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.preprocess import Preprocess
from vit_convert.rules import Rule, Spelling

Json = dict[str, Any]


@dataclass(frozen=True)
class Described:
    """What the config files beside the weights say: ViTConfig fields, and what isn't maths."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] | None = None
    hint: str = ""  # said when fields stay unknown
    # Field -> where it came from, if not from the config file itself: what its writer left to defaults and code.
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Files:
    """JSON files to write beside the weights, and what they can't say."""

    files: Mapping[str, Json]
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """A foreign layout: `rules` has its names on the left and the hub's on the right."""

    name: str
    summary: str
    rules: tuple[Rule, ...]
    # A file's names -> what fills the rules' holes ({block} excepted), or None if it isn't this layout.
    recognise: Callable[[Collection[str]], Mapping[str, Spelling] | None]
    # The same, for a file that is to be written.
    spell: Callable[[ViTConfig], Mapping[str, Spelling]]
    # Whether a config.json is this layout's.
    owns: Callable[[Json], bool]
    # config.json, and every other JSON file beside the weights by name -> what they say.
    read: Callable[[Json, Callable[[str], Json | None]], Described]
    write: Callable[[ViTConfig, Preprocess | None, tuple[str, ...] | None], Files]
    # Field -> the only values that this layout has; and what else it can't hold, in words.
    limits: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    conflicts: Callable[[ViTConfig], list[str]] = lambda config: []

    def check(self, config: ViTConfig) -> None:
        """Raises CheckpointError if this layout can't hold the model, naming every field, value and limit."""
        problems = [p for name, allowed in self.limits.items() for p in outside(config, name, allowed)]
        problems += self.conflicts(config)
        if problems:
            raise CheckpointError(f"layout {self.name} can't hold this model:\n  " + "\n  ".join(problems))

    def spellings(self, config: ViTConfig) -> dict[str, Spelling]:
        """What fills the holes of the rules in a file that is to be written."""
        return {**self.spell(config), "block": range(config.depth)}


def outside(config: ViTConfig, name: str, allowed: tuple[Any, ...], why: str = "") -> list[str]:
    """A message if a field's value is not one of those allowed, else nothing."""
    value = getattr(config, name)
    return [] if value in allowed else [f"{name} {value!r}: only {' or '.join(map(repr, allowed))}{why}"]
