"""What stays out, refused by name and with the reason: models whose function ViTConfig can't say."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vit_convert.errors import CheckpointError
from vit_convert.layouts.base import Beside
from vit_convert.rules import Shape


@dataclass(frozen=True)
class Refusal:
    """A model that is known and not read."""

    what: str
    why: str
    names: tuple[str, ...] = ()  # any of these among the tensors gives it away
    model_types: tuple[str, ...] = ()  # of transformers' config.json
    architectures: tuple[str, ...] = ()  # beginnings of timm's architecture


REFUSALS: tuple[Refusal, ...] = ()


def refuse(path: Path, shapes: Mapping[str, Shape], beside: Beside) -> None:
    """Raises CheckpointError for a model that is known and not read."""
    config = beside("config.json") or {}
    kind, architecture = config.get("model_type"), str(config.get("architecture", ""))
    for refusal in REFUSALS:
        named = any(name in shapes for name in refusal.names)
        if named or kind in refusal.model_types or (architecture and architecture.startswith(refusal.architectures)):
            raise CheckpointError(f"{path}: {refusal.what} is not read: {refusal.why}")
