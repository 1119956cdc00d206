"""A TFDS dataset that was prepared as ArrayRecord: read at random, without TensorFlow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.config import ConfigError
from train.input.sources.base import Example, Shape
from train.input.sources.records import Records


class Tfds:
    """A split, or a part of one as TFDS writes it: train, train[:99%], test."""

    def __init__(self, name: str, split: str, data_dir: Path | None):
        from tensorflow_datasets.proto import tf_example_pb2

        builder = _builder(name, data_dir)
        self.parse = tf_example_pb2.Example.FromString  # pyright: ignore[reportAttributeAccessIssue]
        self.image, self.label = _features(name, builder.info.features)
        self.class_names = tuple(builder.info.features[self.label].names)
        self.shape: Shape = builder.info.features[self.image].shape
        self.records = _records(name, builder, split)
        self.fingerprint = f"{builder.info.full_name} {split} {len(self.records)}"

    def __len__(self) -> int:
        return len(self.records)

    def examples(self, indices: Sequence[int]) -> list[Example]:
        return [self._example(i, self.records[i]) for i in indices]

    def _example(self, index: int, record: bytes) -> Example:
        """By hand: TFDS' own parser takes ten times as long, longer than decoding a small image."""
        values = self.parse(record).features.feature
        image, label = values[self.image].bytes_list.value[0], values[self.label].int64_list.value[0]
        return Example(image, label, f"{self.fingerprint}: example {index}")


def _builder(name: str, data_dir: Path | None) -> Any:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # TFDS raises DatasetNotFoundError, AssertionError, ImportError, ...: all say why
        meant = f"; did you mean the folder of images, folder:{name}?" if Path(name).is_dir() else ""
        raise ConfigError(f"data.name {name}: TFDS says: {str(error).partition(chr(10))[0]}{meant}") from error
    if not builder.info.splits:
        where = f" --data-dir {data_dir}" if data_dir else ""
        raise ConfigError(
            f"data.name {name}: there is no prepared dataset at {builder.data_dir}; "
            f"make it with `vit-train prepare {name}{where}`, or say with --data.dir where it is"
        )
    return builder


def _features(name: str, features: Any) -> tuple[str, str]:
    """The names of the image and of the label among the features."""
    import tensorflow_datasets as tfds

    found = {}
    for kind, usual in ((tfds.features.Image, "image"), (tfds.features.ClassLabel, "label")):
        names = [key for key, feature in features.items() if isinstance(feature, kind)]
        if usual not in names and len(names) != 1:
            raise ConfigError(f"data.name {name}: expected one image and one class label, got {dict(features)}")
        found[usual] = usual if usual in names else names[0]
    return found["image"], found["label"]


def _records(name: str, builder: Any, split: str) -> Records:
    import tensorflow_datasets as tfds

    if builder.info.file_format is not tfds.core.FileFormat.ARRAY_RECORD:
        raise ConfigError(
            f"data.name {name}: the dataset at {builder.data_dir} is not in ArrayRecord, the format that can be read "
            f"at random without TensorFlow; `vit-train prepare {name} --data-dir ELSEWHERE` makes one that is"
        )
    try:
        parts = builder.info.splits[split].file_instructions
    except (KeyError, ValueError) as error:
        raise ConfigError(f"data.name {name}, split {split!r}: {' '.join(str(error).split())}") from error
    if missing := sorted({str(part.filename) for part in parts if not Path(part.filename).is_file()}):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ConfigError(f"data.name {name}, split {split!r}: files are missing: {', '.join(missing[:3])}{more}")
    return Records(parts)
