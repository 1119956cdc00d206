"""vit-train prepare NAME [--data-dir DIR]: makes a TFDS dataset ready, as ArrayRecord"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import tyro

from train.config import ConfigError
from vit_convert.streams import answer

NEEDS_TENSORFLOW = (
    "vit-train prepare needs TensorFlow, which is not installed; training itself does not. Install it with\n"
    "    pip install 'vit-parity[prepare]'        (in a checkout: pip install '.[prepare]')\n"
    "or in another environment: what is prepared there is read here, with --data.dir"
)


@dataclass(frozen=True, kw_only=True)
class Prepare:
    """What the command line says."""

    # of the dataset, as TFDS calls it: fashion_mnist, or cifar10:3.0.2
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    data_dir: Path | None = None  # where TFDS keeps datasets; None: where TFDS itself looks


def main(args: list[str]) -> None:
    """The command.

    Raises:
        ConfigError: TensorFlow is missing, there is no such dataset, or TFDS can't prepare it; the message says why.
    """
    said = "Downloads a TFDS dataset and writes it as ArrayRecord, to train on. TensorFlow is needed for this alone."
    asked = tyro.cli(Prepare, prog="vit-train prepare", description=said, args=args)
    if find_spec("tensorflow") is None:
        raise ConfigError(NEEDS_TENSORFLOW)
    builder = prepare(asked.name, asked.data_dir)
    counts = ", ".join(f"{name} {split.num_examples:,}" for name, split in builder.info.splits.items())
    where = f" --data.dir {asked.data_dir}" if asked.data_dir else ""
    answer(f"{builder.data_dir}  {builder.info.full_name}: {counts} examples")
    answer(f"vit-train RECIPE --data.name {asked.name}{where}  trains on it")


def prepare(name: str, data_dir: Path | None) -> Any:
    """Downloads and writes the dataset, with progress bars; nothing if that is done already.

    Raises:
        ConfigError: see main.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format=tfds.core.FileFormat.ARRAY_RECORD)
        builder.download_and_prepare()
        builder.as_data_source()
    except Exception as error:  # AssertionError, ValueError, OSError, requests' and TensorFlow's own: all say why
        said = str(error).partition("\nAvailable datasets:")[0]
        if "File format" in said:
            said += "; give another --data-dir, and it is made there anew"
        raise ConfigError(f"{name} can't be prepared: {type(error).__name__}: {said}") from error
    return builder
