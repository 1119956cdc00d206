"""A config's paths from the root, so that a run's config.json means the same files wherever it is read."""

from dataclasses import replace
from pathlib import Path

from train.config.run import TrainConfig
from train.input.sources import FOLDER


def absolute(config: TrainConfig) -> TrainConfig:
    """The config with its data, and the checkpoint that it starts from, named from the root. Names that are no paths
    (of a TFDS dataset, of a checkpoint on the hub) stay."""
    data = config.data
    name = f"{FOLDER}{Path(data.name.removeprefix(FOLDER)).absolute()}" if data.name.startswith(FOLDER) else data.name
    data = replace(data, name=name, dir=data.dir and data.dir.absolute())
    init = config.init
    if init and Path(init).exists():
        init = str(Path(init).absolute())
    return replace(config, data=data, init=init)
