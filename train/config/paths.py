"""A config's paths from the root, so that a run's config.json means the same files wherever it is read."""

import os
import re
from dataclasses import replace
from pathlib import Path

from train.config.checks import ConfigError
from train.config.data import DataConfig
from train.config.run import TrainConfig
from train.input.sources import FOLDER

HUB = ("hf-hub:", "hf_hub:")


def check_local(option: str, path: str | Path | None) -> None:
    """
    Raises:
        ConfigError: an address such as gs://bucket/run: taken for a path it would be made as a folder here. Path joins
            its slashes, so one is enough.
    """
    found = re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path or ""))
    if found and not str(path).startswith(HUB):
        raise ConfigError(
            f"{option} {path}: expected a path on this machine, got an address ({found[0]}/...): "
            "mount it and give the mounted path"
        )


def absolute(config: TrainConfig) -> TrainConfig:
    """The config with its data, and the checkpoint that it starts from, named from the root. Names that are no paths
    (of a TFDS dataset, of a checkpoint on the hub) stay.

    Raises:
        ConfigError: an address instead of a path.
    """
    check_local("--data.dir", config.data.dir)
    check_local("--data.name", config.data.name.removeprefix(FOLDER))
    check_local("--init", config.init)
    init = config.init
    if init and not init.startswith(HUB):  # be it there or not: a run goes on without it, by the same name
        init = _absolute(init)
    return replace(config, data=absolute_data(config.data), init=init)


def absolute_data(data: DataConfig) -> DataConfig:
    """The same data, named from the root."""
    name = data.name
    if name.startswith(FOLDER):
        name = FOLDER + _absolute(name.removeprefix(FOLDER))
    return replace(data, name=name, dir=data.dir and Path(_absolute(data.dir)))


def _absolute(path: str | Path) -> str:
    """Links stay: what they lead to may be moved."""
    return os.path.abspath(Path(path).expanduser())
