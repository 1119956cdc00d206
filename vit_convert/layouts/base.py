"""What a layout is: its table, how it is recognised, and how its config is read and written."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import log
from typing import Any

import numpy as np

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.preprocess import Preprocess
from vit_convert.rules import Rule, Shape, Spelling
from vit_convert.steps import Step

LEAVES = ("weight", "bias")
Json = dict[str, Any]
Beside = Callable[[str], Json | None]  # a JSON file beside the weights, by its name


@dataclass(frozen=True)
class Described:
    """What is known of a file apart from its names and shapes: ViTConfig fields, and what isn't maths."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] | None = None
    hint: str = ""  # said when fields stay unknown
    # Field -> where it came from, if not from the config file itself: what its writer left to defaults and code.
    sources: Mapping[str, str] = field(default_factory=dict)
    # Whose evaluation prepares the images where no file says how: a name of vit_convert.processors.known.
    evaluation: str = ""
    # A note on what a file says of preprocessing that `Preprocess` isn't: then nothing else stands in for it.
    unread: str = ""
    said: tuple[str, ...] = ()  # notes on what else of the files is not read


@dataclass(frozen=True)
class Files:
    """JSON files to write beside the weights, and what they can't say."""

    files: Mapping[str, Json]
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bare:
    """A file's tensors, for a layout that learns config fields from them."""

    hub: Mapping[str, Shape]  # names and shapes of the table's right side, as far as it understands the file
    shapes: Mapping[str, Shape]  # the file's own
    read: Callable[[str], np.ndarray]  # by the file's own name
    name: str = ""  # of the file, without its suffix


@dataclass(frozen=True)
class Aside:
    """What may stand beside a family's tensors and is left out, said aloud: a text tower, a decoder.

    `name` is a whole name, or the beginning of names if it ends with "." or "/".
    """

    name: str
    what: str


def covered_by(asides: Iterable[Aside]) -> Callable[[str], str | None]:
    """A tensor's name -> what stands aside under it, or None: asked of thousands of names, so looked up at once."""
    whole = {aside.name: aside.what for aside in asides}
    begins = tuple(name for name in whole if name.endswith((".", "/")))

    def what(name: str) -> str | None:
        if name in whole or not name.startswith(begins):
            return whole.get(name)
        return next(whole[begin] for begin in begins if name.startswith(begin))

    return what


@dataclass(frozen=True)
class Spare:
    """A tensor of the family's class that the function doesn't need: left out when read, made anew when written.

    `name` is a right-hand name of the layout's table, which the hub doesn't have.
    """

    name: str  # {block} for every block
    what: str  # "mask_token (masked pre-training)"
    # None: read where it is there, never written; or not in the class of such a config.
    make: Callable[[ViTConfig], np.ndarray | None] | None = None
    like: str = "patch_embed.proj.weight"  # whose dtype it is given; empty: that with which it is made
    # What the values that a file holds must be for the function to be that of the config; raises ValueError.
    check: Callable[[ViTConfig, np.ndarray], None] | None = None

    def names(self, depth: int) -> tuple[str, ...]:
        return tuple(self.name.format(block=i) for i in range(depth)) if "{block}" in self.name else (self.name,)

    def likes(self, depth: int) -> tuple[str, ...]:
        """`like` of each of the names."""
        return tuple(self.like.format(block=i) for i, _ in enumerate(self.names(depth)))


@dataclass(frozen=True)
class Layout:
    """A foreign layout: `rules` has its names on the left and the hub's on the right."""

    name: str
    summary: str
    rules: tuple[Rule, ...]
    # A file's names and shapes -> what fills the rules' holes ({block} need not be), or None if it isn't this layout.
    recognise: Callable[[Mapping[str, Shape]], Mapping[str, Spelling] | None]
    # The same, for a file that is to be written.
    spell: Callable[[ViTConfig], Mapping[str, Spelling]]
    # The JSON files beside the weights: the family's own, or ours.
    write: Callable[[ViTConfig, Preprocess | None, tuple[str, ...] | None], Files]
    # Whether the config beside the weights is this layout's; the default is that of one without a config of its own.
    owns: Callable[[Json], bool] = lambda config: False
    # That config, and every other JSON file beside the weights by name -> what they say.
    read: Callable[[Json, Beside], Described] = lambda config, beside: Described()
    # Field -> the only values that this layout has; and what else it can't hold, in words.
    limits: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    conflicts: Callable[[ViTConfig], list[str]] = lambda config: []
    # What the family's code says of any file of it, and what this one's own tensors tell.
    bare: Callable[[Bare], Described] = lambda file: Described()
    # Prefixes under which the names may stand, and what may stand beside.
    roots: tuple[str, ...] = ("",)
    # Of these, those that any wrapper may use: they count only if something stands aside.
    wrappers: tuple[str, ...] = ()
    asides: tuple[Aside, ...] = ()
    spares: tuple[Spare, ...] = ()
    # Steps that bring a model which the layout can't hold as it is into one that it can, of the same function.
    adapts: tuple[Callable[[ViTConfig], Step | None], ...] = ()
    config_file: str = "config.json"
    weights_file: str = "model.safetensors"

    def problems(self, config: ViTConfig) -> list[str]:
        """Every field, value and limit for which this layout can't hold the model as it is."""
        limits = [p for name, allowed in self.limits.items() for p in outside(config, name, allowed)]
        return limits + self.conflicts(config)

    def check(self, config: ViTConfig) -> None:
        """Raises CheckpointError if this layout can't hold the model as it is."""
        if problems := self.problems(config):
            raise CheckpointError(f"layout {self.name} can't hold this model:\n  " + "\n  ".join(problems))

    def spellings(self, config: ViTConfig) -> dict[str, Spelling]:
        """What fills the holes of the rules in a file that is to be written."""
        return {"block": range(config.depth), **self.spell(config)}


def outside(config: ViTConfig, name: str, allowed: tuple[Any, ...], why: str = "") -> list[str]:
    """A message if a field's value is not one of those allowed, else nothing."""
    value = getattr(config, name)
    if value in allowed:
        return []
    nearest = min(allowed, key=lambda eps: abs(log(eps / value))) if name == "norm_eps" else None
    instead = f"; --set norm_eps={nearest!r} takes that, nearly the same function" if nearest else ""
    return [f"{name} {value!r}: only {' or '.join(map(repr, allowed))}{why}{instead}"]


def layer_rules(names: Mapping[str, str]) -> tuple[Rule, ...]:
    """Rules for the weight and the bias of each layer, left name -> hub name."""
    return tuple(Rule(f"{left}.{leaf}", f"{right}.{leaf}") for left, right in names.items() for leaf in LEAVES)


def resizing(who: str, theirs: str, config: ViTConfig) -> list[str]:
    """A note where a library resizes positions by another rule than the model does, else nothing."""
    if config.pos_embed != "learned" or config.pos_resize == theirs:
        return []
    why = "the same function at this image size, another at others"
    return [f"{who} resizes positions by {theirs}, not by {config.pos_resize}: {why}"]


def coded(who: str, fields: Mapping[str, Any]) -> Described:
    """Fields that a family's code fixes, whatever its files say."""
    return Described(fields, sources=dict.fromkeys(fields, f"{who}'s code"))
