"""Where a command may write: a file with its own suffix, in a folder that takes it, and none that the command reads."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from vit_convert.beside import place_of

KINDS = {".png": "a PNG file", ".npz": "an NPZ file", ".html": "an HTML file"}  # of what the commands write
DRAWN_BY = "Matplotlib"


class OutputError(ValueError):
    """What a command is to write can't have that name, or would be written over what it reads; the message says why."""


def check_output(option: str, path: Path, suffix: str) -> None:
    """
    Args:
        option: that names the file, as "--attention".
        suffix: of what is written. A shell hands the first file of `--attention photos/*.jpg` to the option.

    Raises:
        OutputError: there is no such folder or no permission to write in it, or the name is a folder's or of another
            suffix.
        OSError: a device, a FIFO or a socket has that name.
    """
    expected = f"expected the name of {KINDS[suffix]}, as {option.lstrip('-')}{suffix}"
    place = place_of(path)
    for folder in (path.absolute().parent, place.parent):  # that of a link, and that of where it leads
        if not folder.is_dir():
            raise OutputError(f"{option} {path}: there is no folder {folder}")
    if path.is_dir():
        raise OutputError(f"{option} {path} is a folder: {expected}")
    if path.suffix.lower() != suffix:
        raise OutputError(f"{option} {path}: {expected}")
    if not os.access(place.parent, os.W_OK):
        raise OutputError(f"{option} {path}: no permission to write in {place.parent}")


def check_unread(outputs: Mapping[str, Path], checkpoint: str | Path, images: Iterable[str | Path] = ()) -> None:
    """
    Args:
        outputs: by the options that name them.
        checkpoint: as the user names it: a file, a directory, or a name of the hub.
        images: whose files are read; not looked at where there is nothing yet that could be written over.

    Raises:
        OutputError: an output is one of the images, a file of the checkpoint, or a photograph: of `--attention *.png`
            a shell makes the first the output, and the others the images.
    """
    there = {option: path for option, path in outputs.items() if path.exists()}
    for option, path in there.items():
        if _is_of_checkpoint(path, Path(checkpoint)):
            raise OutputError(
                f"{option} {path} is a file of the checkpoint {checkpoint}, which is read: give another name"
            )
    options = {_identity(path): option for option, path in there.items()}
    for image in images if there else ():
        if option := options.get(_identity(image)):
            raise OutputError(f"{option} {there[option]} is the image {image}, which is read: give another name")
    for option, path in there.items():
        if _is_photograph(path):
            raise OutputError(
                f"{option} {path} is a picture that no command here drew: give another name, or remove it"
            )


def _is_photograph(file: Path) -> bool:
    """Whether it is a picture without the name that Matplotlib, which draws every command's, leaves in its PNG files;
    one of another format is none of those."""
    from PIL import Image  # help answers at once

    try:
        with Image.open(file) as picture:
            return picture.format != "PNG" or DRAWN_BY not in picture.info.get("Software", "")
    except Image.DecompressionBombError:
        return True
    except (OSError, ValueError, SyntaxError):  # no picture, or what is left of one
        return False


def _identity(path: str | Path) -> tuple[int, int] | None:
    """The same for two names of one file; None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # the latter of a name that none can be
        return None
    return found.st_dev, found.st_ino


def _is_of_checkpoint(path: Path, checkpoint: Path) -> bool:
    """Whether path, which is there, is a file that a checkpoint is read from, or lies in its directory."""
    if not checkpoint.exists():  # of the hub
        return False
    if checkpoint.name.endswith(".index.json"):  # of the shards beside it
        checkpoint = checkpoint.parent
    if not checkpoint.is_dir():
        return any(path.samefile(file) for file in (checkpoint, *checkpoint.parent.glob("*.json")))
    place = place_of(path)
    if place.is_relative_to(os.path.realpath(checkpoint)):
        return _may_be_read(place)
    # Its weights may be links that lead elsewhere.
    return any(_may_be_read(file) and path.samefile(file) for file in checkpoint.iterdir() if file.is_file())


def _may_be_read(file: Path) -> bool:
    """Whether a file of a checkpoint's directory is more than what a command has written there before."""
    from vit_convert.files.directory import weights_among  # NumPy: help answers at once

    others = (path.name for path in file.parent.iterdir())
    return file.suffix.lower() not in KINDS or file.name in weights_among(list(others))
