"""A TFDS dataset that was prepared as ArrayRecord, read without TensorFlow."""

import io
from collections.abc import Iterator
from functools import cache
from typing import Any

from PIL import Image as Picture

from vit_torch.training.loop.errors import Refused
from vit_torch.training.loop.journal import say
from vit_torch.training.loop.sources import Source, opened


def tfds(name: str, split: str, data_dir: str | None) -> Source:
    """A split, or a part of one as TFDS writes it: train, train[:99%], test. Records are read when images or labels
    are first asked for, and kept as they are encoded.

    Raises:
        Refused: no such dataset or split, none that is prepared, or one without one image and one class label.
    """
    builder = _builder(name, data_dir)
    image, label = _features(name, builder.info.features)
    data = _data(name, builder, split, image)

    @cache
    def examples() -> list[tuple[bytes, int]]:
        say(f"reading {len(data):,} examples of {name}, {split}")
        return [(example[image], int(example[label])) for example in data]

    def images() -> Iterator[Picture.Image]:
        for number, (encoded, _) in enumerate(examples()):
            yield opened(io.BytesIO(encoded), f"example {number} of {name}, split {split!r},")

    shape = builder.info.features[image].shape
    names = tuple(builder.info.features[label].names)
    return Source(images, lambda: [y for _, y in examples()], names, None if None in shape else shape)


def _builder(name: str, data_dir: str | None) -> Any:
    try:
        import tensorflow_datasets
    except ModuleNotFoundError:
        raise Refused(f"data.name {name} needs tensorflow-datasets: pip install tensorflow-datasets") from None
    try:
        builder: Any = tensorflow_datasets.builder(name, data_dir=data_dir)
    except MemoryError:
        raise
    except Exception as error:  # TFDS raises DatasetNotFoundError, AssertionError, ImportError, ...: all say why
        why = str(error).partition("\n")[0]  # all datasets are named below it
        raise Refused(
            f"data.name {name}: TFDS says: {why} This loop reads digits, folder:PATH, arrays:FILE.npz and TFDS datasets"
        ) from error
    if not builder.info.splits:
        where = f" --data-dir {data_dir}" if data_dir else ""
        raise Refused(
            f"data.name {name}: there is no prepared dataset at {builder.data_dir}; make it with "
            f"`vit-train prepare {name}{where}`, or say with --data.dir where it is"
        )
    return builder


def _features(name: str, features: Any) -> tuple[str, str]:
    """The names of the image and of the label among the features."""
    from tensorflow_datasets.core.features import ClassLabel, Image

    found = []
    for kind, usual in ((Image, "image"), (ClassLabel, "label")):
        names = [key for key, feature in features.items() if isinstance(feature, kind)]
        if usual not in names and len(names) != 1:
            raise Refused(f"data.name {name}: expected one image and one class label, got {dict(features)}")
        found.append(usual if usual in names else names[0])
    image, label = found
    return image, label


def _data(name: str, builder: Any, split: str, image: str) -> Any:
    """Examples with their images as they are encoded."""
    from tensorflow_datasets.core.decode import SkipDecoding

    try:
        if not builder.info.splits[split].num_examples:
            raise Refused(f"data.name {name}: split {split!r} is empty")
        return builder.as_data_source(split, decoders={image: SkipDecoding()})
    except NotImplementedError as error:  # another format than ArrayRecord
        raise Refused(
            f"data.name {name}: the dataset at {builder.data_dir} is not in ArrayRecord, the format that can be read "
            f"at random without TensorFlow; `vit-train prepare {name} --data-dir ELSEWHERE` makes one that is"
        ) from error
    except (KeyError, ValueError, OSError) as error:
        raise Refused(f"data.name {name}, split {split!r}: {' '.join(str(error).split())}") from error
