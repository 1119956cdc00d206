"""A file in memory without being read: mapped, so that its arrays can be written to and the file never changes."""

import mmap
import sys
from typing import IO

from vit_convert.errors import CheckpointError

# Linux's MAP_NORESERVE, which the mmap module has no name for. Pages that are written are copied, and so Linux wants
# room for all of them beforehand: without it a file larger than RAM and swap is refused, though hardly a page is
# written.
NORESERVE = 0x4000


def mapped(file: IO[bytes]) -> mmap.mmap:
    """The whole of an open file, privately: writable, as torch asks of what it wraps.

    Raises:
        CheckpointError: the system refuses it.
        ValueError: the file is empty.
    """
    try:
        if sys.platform == "linux":
            return mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE | NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE)
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise CheckpointError(f"{file.name}: can't be mapped into memory ({error.strerror or error})") from None
