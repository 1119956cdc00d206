"""A folder of images as ImageNet ships it: ROOT/SPLIT/CLASS/*.jpg."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from train.config import ConfigError
from train.errors import DataError
from train.input.sources.base import Example, Shape

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class Folder:
    """A split: its classes are the folders in it, by name; its examples their images, by name."""

    shape: Shape = (None, None, None)

    def __init__(self, root: str, split: str):
        folder = Path(root) / split
        try:
            self.class_names = _classes(Path(root), folder)
            of_classes = [_images(folder / name) for name in self.class_names]
        except OSError as error:
            raise ConfigError(
                f"data.name folder:{root}: {error.filename} can't be listed ({error.strerror or error}): "
                "every folder of a split has to be readable"
            ) from error
        self.files = [(path, label) for label, images in enumerate(of_classes) for path in images]
        if not self.files:
            raise ConfigError(f"data.name folder:{root}: no image ({', '.join(SUFFIXES)}) is in {folder}/*/")
        names = "\n".join(f"{label} {path.relative_to(folder)}" for path, label in self.files)
        self.fingerprint = f"folder {split} {len(self.files)} {hashlib.sha256(names.encode()).hexdigest()[:16]}"

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
            "--data.train-split and --data.test-split"
        )
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise ConfigError(f"data.name folder:{root}: {folder} has no folders: expected one for each class")
    return tuple(classes)


def _images(folder: Path) -> list[Path]:
    """The images in it at any depth, links followed.

    Raises:
        OSError: a folder can't be listed. Without it the run would go on with fewer images, and not know.
    """
    found: list[Path] = []
    for at, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        if _lies_in_itself(Path(at), folder):
            folders.clear()
        else:
            folders[:] = filter(_shown, folders)
            found += [Path(at) / name for name in filter(_shown, names)]
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES)


def _shown(name: str) -> bool:
    """Whether it is not hidden: folders hold previews (.thumbnails/) and what macOS leaves (._a.jpg)."""
    return not name.startswith(".")


def _refuse(error: OSError) -> None:
    raise error


def _lies_in_itself(at: Path, top: Path) -> bool:
    """Whether links led back to a folder on the way from top: its images would be found once more at every turn."""
    above = [path for path in at.parents if path == top or top in path.parents]
    return os.path.realpath(at) in map(os.path.realpath, above)


def _example(path: Path, label: int) -> Example:
    """The file; one that is gone or forbidden is an empty image, which decoding reports with all the others.

    Raises:
        DataError: the disk or the network doesn't give it: that may pass, and another image must not take its place.
    """
    try:
        return Example(path.read_bytes(), label, str(path))
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        return Example(b"", label, f"{path} ({error.strerror})")
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error
