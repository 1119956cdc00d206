"""File names on stdin and stdout, of whatever bytes: a name is no text to the system that has the file"""

import sys


def keep_names() -> None:
    """Names that aren't UTF-8 are read and printed as their own bytes: either is UnicodeDecodeError or
    UnicodeEncodeError otherwise. stderr escapes what it can't print, as Python made it."""
    for stream in (sys.stdin, sys.stdout):
        if reconfigure := getattr(stream, "reconfigure", None):  # another stream may stand in their place
            reconfigure(errors="surrogateescape")
