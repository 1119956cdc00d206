"""A config's paths from the root, so that a run's config.json means the same files wherever it is read."""

import os
from dataclasses import replace
from pathlib import Path

from train.config.run import TrainConfig
from train.input.sources import FOLDER


def absolute(config: TrainConfig) -> TrainConfig:
    """The config with its data, and the checkpoint that it starts from, named from the root. Names that are no paths
    (of a TFDS dataset, of a checkpoint on the hub) stay."""
    data = config.data
    name = data.name
    if name.startswith(FOLDER):
        name = FOLDER + _absolute(name.removeprefix(FOLDER))
    data = replace(data, name=name, dir=data.dir and Path(_absolute(data.dir)))
    init = config.init
    if init and Path(init).expanduser().exists():
        init = _absolute(init)
    return replace(config, data=data, init=init)


def _absolute(path: str | Path) -> str:
    """Links stay: what they lead to may be moved."""
    return os.path.abspath(Path(path).expanduser())
