"""A part of a JPEG by libjpeg-turbo: the rows below it are not read, and what lies beside it is not transformed.

TurboJPEG 3 has tj3SetCroppingRegion for it, and no package binds that for Python: it is called through ctypes, which
releases Python's lock. The library is the system's, or the one that the wheel `turbojpeg` holds.
"""

import ctypes
import importlib.util
import sys
import threading
from functools import cache

import numpy as np

SYSTEM = {"darwin": "libturbojpeg.dylib", "win32": "turbojpeg.dll"}.get(sys.platform, "libturbojpeg.so.0")
# Of turbojpeg.h: enum TJINIT, TJPARAM, TJPF and TJCS, and tjMCUWidth by TJSAMP.
DECOMPRESS = 1
STOP_ON_WARNING, SUBSAMPLING, WIDTH, HEIGHT, COLOURS = 0, 4, 5, 6, 8
RGB, GREY = 0, 6
READ = {0: (RGB, 3), 1: (RGB, 3), 2: (GREY, 1)}  # files of RGB, YCbCr and grey: pixel format, channels
BLOCK_WIDTH = dict(enumerate((8, 16, 16, 8, 8, 32, 8)))
AROUND = 2  # how far smoothed chroma sees: with these pixels around it, a part is what the whole image has there
END = b"\xff\xd9"


class Region(ctypes.Structure):
    """tjregion."""

    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "w", "h")]


class Scale(ctypes.Structure):
    """tjscalingfactor."""

    _fields_ = [(name, ctypes.c_int) for name in ("num", "denom")]


def decode_part(jpeg: bytes, edges: tuple[int, int, int, int], reduced: int = 1) -> np.ndarray | None:
    """A part of the image at a `reduced`th of its size (1, 2, 4 or 8): (H, W, 3) uint8, of a grey one (H, W, 1), to the
    bit what the whole image has there.

    None where it can't be had: there is no library, or this isn't the plain case (the file doesn't end as a JPEG does,
    CMYK, other than the usual subsampling, what is read has a fault).

    Args:
        edges: top, left, bottom and right of the part, in pixels of the reduced image.
    """
    library = turbojpeg()
    if library is None or not jpeg.endswith(END):
        return None
    if not hasattr(_of_thread, "decoder"):
        _of_thread.decoder = _Decoder(library)
    return _of_thread.decoder.part(jpeg, edges, reduced)


@cache
def turbojpeg() -> ctypes.CDLL | None:
    """The library, None where there is none of version 3 or newer."""
    wheel = importlib.util.find_spec("turbojpeg")  # symbols are looked up in what an extension is linked with, too
    for name in (SYSTEM, wheel.origin if wheel else None):
        library = _opened(name) if name else None
        if library is not None and hasattr(library, "tj3SetCroppingRegion"):
            return _declared(library)
    return None


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


_of_thread = threading.local()


class _Decoder:
    """An instance of TurboJPEG: each thread has its own."""

    def __init__(self, library: ctypes.CDLL):
        self.library, self.handle = library, library.tj3Init(DECOMPRESS)
        library.tj3Set(self.handle, STOP_ON_WARNING, 1)

    def __del__(self):
        self.library.tj3Destroy(self.handle)

    def part(self, jpeg: bytes, edges: tuple[int, int, int, int], reduced: int) -> np.ndarray | None:
        tj, handle, (top, left, bottom, right) = self.library, self.handle, edges
        if tj.tj3DecompressHeader(handle, jpeg, len(jpeg)) != 0:
            return None
        read, block = READ.get(tj.tj3Get(handle, COLOURS)), BLOCK_WIDTH.get(tj.tj3Get(handle, SUBSAMPLING))
        if read is None or block is None:
            return None
        pixel_format, channels = read
        height, width = (-(-tj.tj3Get(handle, side) // reduced) for side in (HEIGHT, WIDTH))
        y, x = max(top - AROUND, 0), max(left - AROUND, 0) // block * block  # a region begins at a block's left edge
        h, w = min(bottom + AROUND, height) - y, min(right + AROUND, width) - x
        pixels = np.empty((h, w, channels), np.uint8)
        failed = (
            tj.tj3SetScalingFactor(handle, Scale(1, reduced))
            or tj.tj3SetCroppingRegion(handle, Region(x, y, w, h))
            or tj.tj3Decompress8(handle, jpeg, len(jpeg), pixels.ctypes.data, 0, pixel_format)
        )
        return None if failed else pixels[top - y : bottom - y, left - x : right - x]
