"""stdin and stdout: file names of whatever bytes, for a name is no text to the system that has the file, and readers
that go away."""

import sys
from contextlib import suppress


def keep_names() -> None:
    """Names that aren't UTF-8 are read and printed as their own bytes: either is UnicodeDecodeError or
    UnicodeEncodeError otherwise. stderr escapes what it can't print, as Python made it."""
    for stream in (sys.stdin, sys.stdout):
        if reconfigure := getattr(stream, "reconfigure", None):  # another stream may stand in their place
            reconfigure(errors="surrogateescape")


def reader_left() -> None:
    """After a BrokenPipeError, as in `vit-export ... | head -1`: what is not printed yet is dropped. Python would try
    again as it ends, complain, and exit with a code of its own."""
    with suppress(OSError):
        sys.stdout.close()
