"""A folder of images: which files in it are taken, and which folders are classes."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vit_convert.streams import one_line

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
SHOWN = 10  # of many folders


def classes_in(folder: Path) -> tuple[str, ...]:
    """The folders in it by name: each is a class, hidden ones are not.

    Raises:
        OSError: it can't be listed.
    """
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and _shown(path.name)))


def none_in(folder: Path, classes: Sequence[str], labels: Iterable[int]) -> str:
    """What to say of classes that none of a folder's images belongs to; "" where there are no such: torchvision's
    ImageFolder takes none either, for an archive may not be unpacked to its end, or its link lead nowhere."""
    found = set(labels)
    empty = [one_line(str(folder / name)) for label, name in enumerate(classes) if label not in found]
    more = f" and {len(empty) - SHOWN} more" if len(empty) > SHOWN else ""
    listed = ", ".join(empty[:SHOWN])
    return f"no image is in {listed}{more}: remove each such folder, or put its images there" if empty else ""


def images_in(folder: str | Path) -> Iterator[str]:
    """The images in it at any depth, in no order. Links are followed, hidden names not looked at.

    Raises:
        OSError: a folder can't be listed. Without it there would be fewer images, and nobody knew.
    """
    top = Path(folder)
    for at, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        if _lies_in_itself(Path(at), top):
            folders.clear()
            continue
        folders[:] = filter(_shown, folders)
        yield from (os.path.join(at, name) for name in filter(_shown, names) if Path(name).suffix.lower() in SUFFIXES)


def _shown(name: str) -> bool:
    """Whether it is not hidden: folders hold previews (.thumbnails/) and what macOS leaves (._a.jpg)."""
    return not name.startswith(".")


def _refuse(error: OSError) -> None:
    raise error


def _lies_in_itself(at: Path, top: Path) -> bool:
    """Whether links led back to a folder on the way from top: its images would be found once more at every turn."""
    above = [path for path in at.parents if path == top or top in path.parents]
    return os.path.realpath(at) in map(os.path.realpath, above)
