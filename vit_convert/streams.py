"""Text on stdout whatever its encoding has, file names of whatever bytes, for a name is no text to the system that has
the file, and readers that go away."""

import codecs
import sys
import unicodedata
from contextlib import suppress


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


JOINERS = "\u200c\u200d"  # without width, of words and emoji


def one_line(text: str) -> str:
    """A name or label in text for people: line ends, what moves a terminal's cursor or turns its writing, and all else
    that has no shape, as escapes. A file name's bytes that aren't UTF-8 stay, as `keep_names` prints them."""
    return "".join(x if _has_shape(x) else repr(x)[1:-1] for x in text)


def _has_shape(x: str) -> bool:
    return x.isprintable() or "\udc80" <= x <= "\udcff" or x in JOINERS or unicodedata.category(x) == "Zs"


ESCAPE = "vit_convert.escape"


def _escaped(error: UnicodeError) -> tuple[bytes, int]:
    """surrogateescape for a file name's bytes, backslashreplace for letters."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    escaped = (
        bytes([ord(x) & 0xFF]) if "\udc80" <= x <= "\udcff" else x.encode("ascii", "backslashreplace") for x in found
    )
    return b"".join(escaped), error.end


class Unprinted(Exception):
    """What a command was asked for can't be printed; the message says why."""


def answer(text: str) -> None:
    """Prints what a command was asked for.

    Raises:
        Unprinted: stdout can't be written, such as a file on a full disk.
        BrokenPipeError: its reader has left.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        reader_left()
        raise Unprinted(f"stdout can't be written: {error.strerror or error}") from None


def reader_left() -> None:
    """After a BrokenPipeError, as in `vit-export ... | head -1`: what is not printed yet is dropped. Python would try
    again as it ends, complain, and exit with a code of its own."""
    with suppress(OSError):
        sys.stdout.close()
