"""Images as a user names them: files, folders, patterns, a list on stdin; opened one by one, the bad ones told."""

import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from vit_convert.preprocess import Preprocess

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# what Pillow's readers raise at a damaged file, each its own
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)


class NoImages(ValueError):
    """Nothing that was named is an image; the message says what was looked for."""


@dataclass(frozen=True)
class Opened:
    """An image file, and what the model gets of it."""

    path: str
    picture: Image.Image
    input: npt.NDArray[np.float32]  # (H, W, C), preprocessed


@dataclass(frozen=True)
class Corrupt:
    """A file that is no image, or one of which there is no answer, and why."""

    path: str
    why: str
    cannot: str = "read"  # or "answered"


def find_images(named: Sequence[str], stdin: Iterable[str] | None = None) -> list[str]:
    """The files that are named, in that order, a folder's and a pattern's by name; `-` is a list on stdin, a line each.

    A file is taken whatever its name ends with; of a folder, at any depth, those whose suffix is an image's.

    Raises:
        NoImages: a name stands for nothing, or a folder can't be read.
    """
    found: list[str] = []
    for name in named:
        if name == "-":
            lines = (line.rstrip("\r\n") for line in (sys.stdin if stdin is None else stdin))
            found += [line for line in lines if line.strip()]  # spaces are part of a name, but no name alone
        else:
            found += _named(name)
    if not found:
        raise NoImages("no image is named: expected files, folders, patterns, or - for a list on stdin")
    return found


def _named(name: str) -> list[str]:
    path = Path(name)
    if path.is_dir():
        files = sorted(_images(str(path)))
        if not files:
            raise NoImages(f"{name}: no image is in this folder ({', '.join(SUFFIXES)})")
        return files
    if path.exists():
        return [name]
    if files := sorted(at for at in glob(name, recursive=True) if Path(at).is_file()):
        return files
    raise NoImages(f"{name}: no such file or folder")


def _images(folder: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Of a folder, at any depth, as `vit-train` takes them: links are followed, hidden names (.thumbnails, ._a.jpg) are
    not looked at.

    Args:
        above: the folders that it lies in: a link back to one of them is not followed again.

    Raises:
        NoImages: a folder can't be read: what is in it would be missing without a word.
    """
    above = (*above, os.path.realpath(folder))
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        raise NoImages(f"{folder}: this folder can't be read: {error.strerror or error}") from error
    for at in (os.path.join(folder, name) for name in names):
        if not os.path.isdir(at):
            yield from [at] * (os.path.splitext(at)[1].lower() in SUFFIXES)
        elif os.path.realpath(at) not in above:
            yield from _images(at, above)


def open_images(paths: Iterable[str], preprocess: Preprocess) -> Iterator[Opened | Corrupt]:
    """Each file opened and preprocessed, or why it can't be."""
    for path in paths:
        try:
            picture = read(path)
            found = Opened(path, picture, preprocess(picture))
        except UNREADABLE as error:
            yield Corrupt(path, _why(error))
        else:
            yield found


def read(path: str) -> Image.Image:
    """A file's picture, `upright`."""
    with Image.open(path) as picture:
        picture.load()
        return upright(picture)


def upright(picture: Image.Image) -> Image.Image:
    """Turned by its EXIF orientation, and 16 bits made 8, which Pillow would clip to white.

    Raises:
        ValueError: its numbers have no range that is known.
    """
    turned = ImageOps.exif_transpose(picture)
    if turned.mode.startswith("I;16") or (turned.mode == "I" and picture.format in ("PNG", "PPM")):
        return Image.fromarray(np.round(np.asarray(turned, np.float64) / 257).astype(np.uint8))
    if turned.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {turned.mode} have no known range: expected 8 or 16 bits")
    return turned


def _why(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "no image that Pillow reads"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def batches(images: Iterable[Opened | Corrupt], size: int, told: Callable[[Corrupt], None]) -> Iterator[list[Opened]]:
    """The whole ones in lists of `size`, the last one shorter; the others go to `told`."""
    batch: list[Opened] = []
    for image in images:
        if isinstance(image, Corrupt):
            told(image)
            continue
        batch.append(image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def stacked(batch: Sequence[Opened], size: int) -> npt.NDArray[np.float32]:
    """The inputs of a batch, filled up to `size` with its last image."""
    inputs = [image.input for image in batch]
    return np.stack(inputs + [inputs[-1]] * (size - len(inputs)))


def as_seen(picture: Image.Image, preprocess: Preprocess) -> npt.NDArray[np.uint8]:
    """A picture for people: (height, width, 3) uint8. What is transparent is white, unless the model gets the colours
    underneath."""
    hides = preprocess.alpha == "white" or len(preprocess.mean) == 4
    transparent = "A" in picture.getbands() or picture.info.get("transparency") is not None
    if hides and transparent:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.asarray(picture.convert("RGB"))
