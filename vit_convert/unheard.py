"""Runs that go on when nobody hears them: the reader of their output has left, or the disk of their log is full."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


@contextmanager
def heard_or_not(goes_on: str) -> Iterator[None]:
    """Within it nothing that is printed, on stdout or stderr, by whomever, ends the process. The first time that it
    can't be is said on stderr, if that can be written: why, and `goes_on`. What comes later goes nowhere."""
    before = sys.stdout, sys.stderr
    out, err = (stream and Heedless(stream, goes_on) for stream in before)  # None: closed from the start
    sys.stdout, sys.stderr = out, err  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        for stream in (out, err):
            if stream is not None:
                stream.flush()  # Python's own flush, as it ends, would complain and give an exit code of its own
        sys.stdout, sys.stderr = before


class Heedless:
    """A text stream that goes nowhere from the first time on that it can't be written; in all else the one it is of."""

    def __init__(self, stream: TextIO, goes_on: str):
        self.stream, self.goes_on, self.lost = stream, goes_on, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        if self.lost:
            return
        self.lost = True  # before anything is said: that may fail as well
        to_nowhere(self.stream)
        if isinstance(error, BrokenPipeError):
            print(f"nobody reads the progress any more; {self.goes_on}", file=sys.stderr, flush=True)
        else:
            why = f"the progress can't be written any more ({error.strerror or error})"
            print(f"{why}; {self.goes_on}", file=sys.stderr, flush=True)


def to_nowhere(stream: TextIO) -> None:
    """What a stream could not write is dropped, and so is what comes later."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        with suppress(OSError):  # a stream in memory has no file
            os.dup2(nowhere, stream.fileno())
            stream.flush()
    finally:
        os.close(nowhere)
