"""Text on stdout whatever its encoding has, and file names of whatever bytes: a name is no text to the system that has
the file"""

import codecs
import sys


def keep_names() -> None:
    """Names that aren't UTF-8 are read and printed as their own bytes, and letters that stdout's encoding has not as
    escapes: either is UnicodeDecodeError or UnicodeEncodeError otherwise. stderr escapes what it can't print, as Python
    made it."""
    codecs.register_error(ESCAPE, _escaped)
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, ESCAPE)):
        if reconfigure := getattr(stream, "reconfigure", None):  # another stream may stand in their place
            reconfigure(errors=errors)


def prints(text: str) -> bool:
    """Whether stdout has all of a text: not a name's bytes that aren't UTF-8 (surrogates, as Python keeps them), nor
    letters that its encoding has not."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


ESCAPE = "vit_tools.escape"


def _escaped(error: UnicodeError) -> tuple[bytes, int]:
    """surrogateescape for a file name's bytes, backslashreplace for letters."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    escaped = (
        bytes([ord(x) & 0xFF]) if "\udc80" <= x <= "\udcff" else x.encode("ascii", "backslashreplace") for x in found
    )
    return b"".join(escaped), error.end
