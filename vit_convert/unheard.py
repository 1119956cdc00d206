"""Runs that go on when nobody hears them: the reader of their output has left, or the disk of their log is full."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TextIO


@contextmanager
def heard_or_not(goes_on: str) -> Iterator[None]:
    """Within it nothing that is printed, on stdout or stderr, by whomever, ends the process. The first time that it
    can't be is said on stderr, if that can be written: why, and `goes_on`. What comes later goes nowhere."""
    before = sys.stdout, sys.stderr
    err = before[1] and Heedless(before[1], lambda why: None)  # None: closed from the start
    # not sys.stderr of that moment: while a live line is shown, rich has it print on stdout
    say = partial(print, file=err, flush=True) if err else lambda why: None
    out = before[0] and Heedless(before[0], lambda why: say(f"{why}; {goes_on}"))
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

    def __init__(self, stream: TextIO, say: Callable[[str], None]):
        self.stream, self.say, self.lost = stream, say, False

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
        gone = isinstance(error, BrokenPipeError)
        why = f"the progress can't be written any more ({error.strerror or error})"
        self.say("nobody reads the progress any more" if gone else why)


def to_nowhere(stream: TextIO) -> None:
    """What a stream could not write is dropped, and so is what comes later."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        with suppress(OSError):  # a stream in memory has no file
            os.dup2(nowhere, stream.fileno())
            stream.flush()
    finally:
        os.close(nowhere)
