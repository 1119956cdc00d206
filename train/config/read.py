"""A run's config.json read back: the same settings again."""

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from train.config.checks import ConfigError
from train.config.kinds import fits, words
from train.config.run import TrainConfig
from vit_convert.config import ViTConfig
from vit_convert.run_folder import FORMAT, VERSION

T = TypeVar("T")


def read_config(path: Path) -> tuple[str, TrainConfig]:
    """(recipe, config) of the config.json of a run, or of the folder that holds it.

    Raises:
        ConfigError: no such file, no run's, or settings that this version doesn't know.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} can't be read as the config.json of a run: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ConfigError(f"{file} is no config.json that vit-train wrote")
    if found.get("version") != VERSION:
        raise ConfigError(
            f"{file} is of version {json.dumps(found.get('version'))}, and this one reads version {VERSION}"
        )
    return str(found.get("recipe")), from_dict(TrainConfig, found.get("train_config", {}), str(file))


def from_dict(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """A config from what its to_dict gave.

    Raises:
        ConfigError: unknown or missing settings, or values of another type, all named at once; or invalid values.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} has {json.dumps(values)} where its settings belong, expected an object")
    hints = get_type_hints(kind)
    if unknown := sorted(set(values) - set(hints)):
        raise ConfigError(f"{where}: {', '.join(unknown)}: this version has no such settings in {kind.__name__}")
    wrong = [name for name, value in values.items() if not fits(hints[name], value)]
    if wrong:
        told = [f"{name} is {json.dumps(values[name])}, expected {words(hints[name])}" for name in wrong]
        raise ConfigError(f"{where}: {'; '.join(told)}")
    try:
        return kind(**{name: _value(hints[name], value, f"{where}: {name}") for name, value in values.items()})
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, ConfigError) else ConfigError(f"{where}: {error}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    if hint is ViTConfig:
        return ViTConfig.from_dict(value)
    if is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value, where)
    if value is not None and Path in (hint, *get_args(hint)):
        return Path(value)
    return tuple(value) if isinstance(value, list) else value
