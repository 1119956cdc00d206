"""Whether a run that was stopped may go on with the settings given now."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from train.config import ConfigError, TrainConfig
from train.config.paths import absolute
from train.config.read import from_dict

# What may differ: where and how fast it is computed, what is said and kept. Everything else decides what is computed.
# on_nonfinite as well: a saved step is finite whichever was chosen, and what comes after it is for the user to say.
FREE = (
    *("log", "checkpoint", "devices", "deterministic", "remat", "scan", "attention", "on_nonfinite"),
    *("data.dir", "data.threads", "data.prefetch", "data.max_corrupt"),
)


def check_same(workdir: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compares train configs, as config.json has them.

    Raises:
        ConfigError: with every setting that differs, and both its values.
    """
    # settings that are newer than that run had the value that is their default; and older ones kept paths as given
    then = absolute(from_dict(TrainConfig, then, str(workdir / "config.json"))).to_dict()
    then, now = (json.loads(json.dumps(config)) for config in (then, now))
    before, given = dict(_flat("", then)), dict(_flat("", now))
    names = [name for name in dict.fromkeys([*before, *given]) if before.get(name) != given.get(name)]
    differ = [f"{name} was {_shown(before, name)} and is {_shown(given, name)}" for name in names if not _free(name)]
    if differ:
        raise ConfigError(
            f"--workdir {workdir} holds a run that was stopped, with other settings: {'; '.join(differ)}. "
            "Give the same to go on with it, another folder, or --overwrite to replace it"
        )


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield prefix + name, value


def _free(name: str) -> bool:
    return any(name == free or name.startswith(f"{free}.") for free in FREE)


def _shown(values: Mapping[str, Any], name: str) -> str:
    return json.dumps(values[name]) if name in values else "not there"
