"""A part of a JPEG by libjpeg-turbo: the rows below it are not read, and what lies beside it is not transformed.

Version 3 of its TurboJPEG API has tj3SetCroppingRegion for it, and no package binds that for Python: it is called
through ctypes, which releases Python's lock. The library is the system's, or the one that the wheel `turbojpeg` holds.
"""

import ctypes
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np

from train.input.jpeg_header import PROGRESSIVE, Frame

SYSTEM = {"darwin": "libturbojpeg.dylib", "win32": "turbojpeg.dll"}.get(sys.platform, "libturbojpeg.so.0")
# Of turbojpeg.h: enum TJINIT, TJPARAM, TJPF and TJCS, and tjMCUWidth by TJSAMP.
DECOMPRESS = 1
STOP_ON_WARNING, SUBSAMPLING, WIDTH, HEIGHT, COLOURS = 0, 4, 5, 6, 8
RGB, GREY = 0, 6
READ = {0: RGB, 1: RGB, 2: GREY}  # files of RGB, YCbCr and grey
BLOCK_WIDTH = dict(enumerate((8, 16, 16, 8, 8, 32, 8)))
AROUND = 2  # how far smoothed chroma sees: with these pixels around it, a part is what the whole image has there
END = b"\xff\xd9"


class Region(ctypes.Structure):
    """tjregion."""

    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "w", "h")]


class Scale(ctypes.Structure):
    """tjscalingfactor."""

    _fields_ = [(name, ctypes.c_int) for name in ("num", "denom")]


def decode_part(jpeg: bytes, frame: Frame, edges: tuple[int, int, int, int], reduced: int = 1) -> np.ndarray | None:
    """A part of the image at a `reduced`th of its size (1, 2, 4 or 8): (H, W, 3) uint8, of a grey one (H, W, 1), to the
    bit what the whole image has there.

    None where it can't be had: there is no library, the file isn't plain or doesn't end as a JPEG does, it is
    progressive (whose blocks may be smoothed with those around them), its subsampling is unusual, or libjpeg-turbo
    finds fault in what it reads.

    Args:
        edges: top, left, bottom and right of the part, in pixels of the reduced image.
    """
    library = turbojpeg()
    if library is None or not frame.is_plain or frame.marker == PROGRESSIVE or not jpeg.endswith(END):
        return None
    with _instance(library) as handle:
        return _part(library, handle, jpeg, frame, edges, reduced)


@cache
def turbojpeg() -> ctypes.CDLL | None:
    """The library, None where there is none of version 3 or newer."""
    for name in (SYSTEM, _wheel()):
        library = _opened(name) if name else None
        if library is not None and hasattr(library, "tj3SetCroppingRegion"):
            return _declared(library)
    return None


def _wheel() -> str | None:
    """The wheel's extension: symbols are looked up in what it is linked with, too."""
    try:
        spec = importlib.util.find_spec("turbojpeg")
    except ValueError:  # something else of that name is loaded
        return None
    return spec.origin if spec else None


def _opened(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """With the types of the functions used here."""
    handle, number, data = ctypes.c_void_p, ctypes.c_int, (ctypes.c_char_p, ctypes.c_size_t)
    library.tj3Init.restype = handle
    library.tj3Init.argtypes = [number]
    library.tj3Destroy.argtypes = [handle]
    library.tj3Set.argtypes = [handle, number, number]
    library.tj3Get.argtypes = [handle, number]
    library.tj3DecompressHeader.argtypes = [handle, *data]
    library.tj3SetScalingFactor.argtypes = [handle, Scale]
    library.tj3SetCroppingRegion.argtypes = [handle, Region]
    library.tj3Decompress8.argtypes = [handle, *data, ctypes.c_void_p, number, number]
    return library


@contextmanager
def _instance(library: ctypes.CDLL) -> Iterator[int]:
    """A new one for every image, which takes a microsecond: an instance keeps tables, and after a fault its state."""
    handle = library.tj3Init(DECOMPRESS)
    if not handle:
        raise MemoryError("TurboJPEG can't be started")
    try:
        yield handle
    finally:
        library.tj3Destroy(handle)


def _part(
    tj: ctypes.CDLL, handle: int, jpeg: bytes, frame: Frame, edges: tuple[int, int, int, int], reduced: int
) -> np.ndarray | None:
    tj.tj3Set(handle, STOP_ON_WARNING, 1)
    if tj.tj3DecompressHeader(handle, jpeg, len(jpeg)) != 0:
        return None
    height, width, colours, subsampling = (tj.tj3Get(handle, of) for of in (HEIGHT, WIDTH, COLOURS, SUBSAMPLING))
    block = BLOCK_WIDTH.get(subsampling)
    if (height, width) != (frame.height, frame.width) or colours not in READ or block is None:
        return None
    top, left, bottom, right = edges
    y, x = max(top - AROUND, 0), max(left - AROUND, 0) // block * block  # a region begins at a block's left edge
    h, w = min(bottom + AROUND, -(-height // reduced)) - y, min(right + AROUND, -(-width // reduced)) - x
    pixels = np.empty((h, w, 1 if READ[colours] == GREY else 3), np.uint8)
    failed = (
        tj.tj3SetScalingFactor(handle, Scale(1, reduced))
        or tj.tj3SetCroppingRegion(handle, Region(x, y, w, h))
        or tj.tj3Decompress8(handle, jpeg, len(jpeg), pixels.ctypes.data, 0, READ[colours])
    )
    return None if failed else pixels[top - y : bottom - y, left - x : right - x]
