"""An image file as Pillow reads it: what its readers raise at damage, and 16 bits made 8."""

import os
import struct

import numpy as np
from PIL import Image, UnidentifiedImageError

# what Pillow's readers raise at a damaged file, each its own: AVIF's and DDS' a RuntimeError
UNREADABLE = (ValueError, OSError, SyntaxError, EOFError, RuntimeError, struct.error, Image.DecompressionBombError)


def without_waiting(path: str, flags: int) -> int:
    """An `opener` of open(): of a named pipe that nobody writes to it gives an empty file, and does not wait."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def why_unreadable(error: Exception) -> str:
    """In words. Pillow's own message names an object in memory where it knows no format."""
    if isinstance(error, UnidentifiedImageError):
        return "no image that Pillow reads"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def to_8_bits(picture: Image.Image, file_format: str | None) -> Image.Image:
    """Grey of 16 bits as the nearest of 8, where 65535 is 255; Pillow's convert would clip it to white. Others as they
    are.

    Args:
        file_format: of the file that it was read from. Pillow has the 16 bits of a PPM, and had those of a PNG, in
            pixels of 32.

    Raises:
        ValueError: its numbers, floats or integers of 32 bits, have no range that is known: convert would clip them,
            those in 0..1 to black.
    """
    if picture.mode.startswith("I;16") or (picture.mode == "I" and file_format in ("PNG", "PPM")):
        return Image.fromarray(((np.asarray(picture).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {picture.mode} have no known range: expected 8 or 16 bits")
    return picture
