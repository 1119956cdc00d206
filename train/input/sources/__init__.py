"""Where examples come from: `open_source` by the name that a config gives."""

from train.config import DataConfig
from train.input.sources.base import Example, Source

FOLDER = "folder:"


def open_source(config: DataConfig, split: str) -> Source:
    """The examples of a split, none of which is read yet.

    Raises:
        ConfigError: no such dataset, or none of its splits has that name.
    """
    if config.name == "digits":
        from train.input.sources.digits import digits

        return digits(split)
    if config.name.startswith(FOLDER):
        from train.input.sources.folder import Folder

        return Folder(config.name.removeprefix(FOLDER), split)
    from train.input.sources.tfds import Tfds

    return Tfds(config.name, split, config.dir)


__all__ = ["Example", "Source", "open_source"]
