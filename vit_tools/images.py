"""Images as a user names them: files, folders, patterns, a list on stdin; opened one by one, the bad ones told."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from vit_convert.image_file import UNREADABLE, to_8_bits, why_unreadable, without_waiting
from vit_convert.image_folder import SUFFIXES, images_in
from vit_convert.preprocess import Preprocess

ORIENTATION = 0x0112  # EXIF's tag: how a camera was held
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
    if not name:  # to Path it is the current folder
        raise NoImages("an image's name is empty: expected files, folders, patterns, or - for a list on stdin")
    path = Path(name)
    if path.is_dir():
        try:
            files = sorted(images_in(path))
        except OSError as error:  # what is in it would be missing without a word
            raise NoImages(f"{error.filename}: this folder can't be read: {error.strerror or error}") from error
        if not files:
            raise NoImages(f"{name}: no image is in this folder ({', '.join(SUFFIXES)})")
        return files
    if path.exists():
        return [name]
    if files := sorted(at for at in glob(name, recursive=True) if Path(at).is_file()):
        return files
    raise NoImages(f"{name}: no such file or folder")


def open_images(paths: Iterable[str], preprocess: Preprocess) -> Iterator[Opened | Corrupt]:
    """Each file opened and preprocessed, or why it can't be."""
    for path in paths:
        try:
            picture = read(path)
            found = Opened(path, picture, preprocess(picture))
        except UNREADABLE as error:
            yield Corrupt(path, why_unreadable(error))
        else:
            yield found


def read(path: str) -> Image.Image:
    """A file's picture, `upright`."""
    with open(path, "rb", opener=without_waiting) as file, Image.open(file) as picture:
        picture.load()
        return upright(picture)


def upright(picture: Image.Image) -> Image.Image:
    """Turned by its EXIF orientation, and 16 bits made 8, which Pillow would clip to white.

    Raises:
        ValueError: its numbers have no range that is known.
    """
    return to_8_bits(_turned(picture), picture.format)


def _turned(picture: Image.Image) -> Image.Image:
    """What ImageOps.exif_transpose makes of the pixels. It writes all other EXIF anew as well, and raises whatever a
    wrong tag of them makes it raise."""
    try:
        turn = TURNS.get(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF raises of every kind, and says nothing of the pixels
        turn = None
    return picture.copy() if turn is None else picture.transpose(turn)


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
