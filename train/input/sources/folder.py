"""A folder of images as ImageNet ships it: ROOT/SPLIT/CLASS/*.jpg."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from train.config import ConfigError
from train.errors import DataError
from train.input.sources.base import Example, Shape
from vit_convert.image_file import without_waiting
from vit_convert.image_folder import SUFFIXES, classes_in, images_in, none_in


class Folder:
    """A split: its classes are the folders in it, by name; its examples their images, by name."""

    shape: Shape = (None, None, None)

    def __init__(self, root: str, split: str):
        folder = Path(root) / split
        try:
            self.class_names = _classes(Path(root), folder)
            of_classes = [sorted(map(Path, images_in(folder / name))) for name in self.class_names]
        except OSError as error:
            raise ConfigError(
                f"data.name folder:{root}: {error.filename} can't be listed ({error.strerror or error}): "
                "every folder of a split has to be readable"
            ) from error
        self.folder, self.name = folder, f"data.name folder:{root}"
        self.files = [(path, label) for label, images in enumerate(of_classes) for path in images]
        if not self.files:
            raise ConfigError(f"{self.name}: no image ({', '.join(SUFFIXES)}) is in {folder}/*/")
        names = "\n".join(f"{label} {path.relative_to(folder)}" for path, label in self.files)
        self.fingerprint = f"folder {split} {len(self.files)} {hashlib.sha256(os.fsencode(names)).hexdigest()[:16]}"

    def check_classes(self) -> None:
        """
        Raises:
            ConfigError: a class has no image: nothing could be learned of it.
        """
        if said := none_in(self.folder, self.class_names, (label for _, label in self.files)):
            raise ConfigError(f"{self.name}: {said}")

    def __len__(self) -> int:
        return len(self.files)

    def examples(self, indices: Sequence[int]) -> list[Example]:
        chosen = [self.files[i] for i in indices]
        return [_example(path, label) for path, label in chosen]


def _classes(root: Path, folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        splits = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        there = f"{root} has {', '.join(splits)}" if splits else f"{root} is no folder with folders in it"
        raise ConfigError(
            f"data.name folder:{root}: there is no {folder}: {there}; name splits with "
            "--data.train-split and --data.test-split, or in vit-train evaluate with --split"
        )
    classes = classes_in(folder)
    if not classes:
        raise ConfigError(f"data.name folder:{root}: {folder} has no folders: expected one for each class")
    return classes


def _example(path: Path, label: int) -> Example:
    """The file; one that is gone or forbidden is an empty image, which decoding reports with all the others.

    Raises:
        DataError: the disk or the network doesn't give it: that may pass, and another image must not take its place.
    """
    try:
        with open(path, "rb", opener=without_waiting) as file:
            return Example(file.read(), label, str(path))
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        return Example(b"", label, f"{path} ({error.strerror})")
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error
