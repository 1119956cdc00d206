"""Labelled images, for what needs to know their classes: FOLDER/CLASS/*, or a split of a TFDS dataset."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from vit_convert.errors import CheckpointError
from vit_convert.preprocess import Preprocess
from vit_tools.images import Corrupt, Opened, find_images, open_images

TFDS = "tfds:"


class Labelled(Protocol):
    """Images, and the name of each one's class."""

    def open(self, preprocess: Preprocess) -> Iterator[Opened | Corrupt]:
        """Each image, preprocessed, or why it can't be read."""
        ...

    def class_of(self, path: str) -> str:
        """The class of an image that was opened, by its path."""
        ...


def labelled(named: str, data_dir: Path | None = None) -> Labelled:
    """
    Args:
        named: a folder of folders; or tfds:NAME/SPLIT, as tfds:cifar10/test or tfds:fashion_mnist/train[:10%].
        data_dir: where TFDS has its datasets; None: where TFDS itself looks.

    Raises:
        NoImages: there is no such folder, or no image in it.
        CheckpointError: TFDS has not what is named, or an image lies in no folder of a class.
    """
    return Split(named.removeprefix(TFDS), data_dir) if named.startswith(TFDS) else Folder(named)


class Folder:
    """The folders in it are its classes, however deep in them an image lies, as `vit-train` takes them."""

    def __init__(self, folder: str):
        self.root = Path(folder)
        self.paths = find_images([folder])
        if not self.root.is_dir():
            raise CheckpointError(f"{folder} is no folder: expected one with a folder for each class")
        if loose := [path for path in self.paths if len(self._parts(path)) < 2]:
            raise CheckpointError(f"{loose[0]} lies in no folder of a class: expected {folder}/CLASS/*")

    def _parts(self, path: str) -> tuple[str, ...]:
        return Path(path).relative_to(self.root).parts

    def open(self, preprocess: Preprocess) -> Iterator[Opened | Corrupt]:
        return open_images(self.paths, preprocess)

    def class_of(self, path: str) -> str:
        return self._parts(path)[0]


class Split:
    """A split of a dataset that was prepared as ArrayRecord (`vit-train prepare`), read without TensorFlow."""

    def __init__(self, named: str, data_dir: Path | None):
        self.name, _, self.split = named.partition("/")
        if not self.split:
            raise CheckpointError(f"{TFDS}{named} names no split: expected {TFDS}NAME/SPLIT, as {TFDS}cifar10/test")
        self.examples, self.names = _open(self.name, self.split, data_dir)
        self.classes: dict[str, str] = {}

    def open(self, preprocess: Preprocess) -> Iterator[Opened | Corrupt]:
        for i in range(len(self.examples)):
            path = f"{TFDS}{self.name}/{self.split}: example {i}"
            try:
                example = self.examples[i]
            except Exception as error:  # TFDS's decoders raise what they meet: of a cut image an AttributeError
                yield Corrupt(path, f"TFDS can't decode it: {' '.join(str(error).split())}")
                continue
            if (label := int(example["label"])) < 0:  # TFDS's way of saying that a test split has no labels
                raise CheckpointError(f"{path} has the label {label}, that is, none: name a split with labels")
            self.classes[path] = self.names[label]
            pixels = example["image"]
            picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
            yield Opened(path, picture, preprocess(picture))

    def class_of(self, path: str) -> str:
        return self.classes[path]


def _open(name: str, split: str, data_dir: Path | None) -> tuple[Any, list[str]]:
    """(the examples by number, the names of the classes)."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise CheckpointError(
            f"{TFDS}{name} needs tensorflow-datasets ({error}): pip install tensorflow-datasets importlib_resources"
        ) from None
    try:
        builder: Any = tfds.builder(name, data_dir=data_dir)
        return builder.as_data_source(split=split), builder.info.features["label"].names
    except Exception as error:  # TFDS raises DatasetNotFoundError, AssertionError, ValueError, ...: all say why
        said = " ".join(str(error).split()).partition(" Available datasets:")[0]
        raise CheckpointError(f"{TFDS}{name}/{split}: TFDS says: {said}") from error
