"""What a long conversion shows while it runs: one live line on a terminal, gone when it ends."""

import sys
import time
from collections.abc import Iterable, Iterator

import numpy as np

SHOWN_FROM = 500_000_000  # bytes: less is done before one could read the line
REFRESH = 0.1  # seconds between two lines
GB = 1e9  # bytes
CLEAR = "\r\x1b[K"  # to the line's beginning; erase to its end (ECMA-48, EL)

Stream = Iterable[tuple[str, np.ndarray]]


def shown(stream: Stream, total_bytes: int, what: str) -> Iterator[tuple[str, np.ndarray]]:
    """Hands a stream of (name, array) through, and shows on stderr how far it is: where that is a terminal and the
    whole is long enough to wait for. However the stream ends, its line is cleared.

    Args:
        total_bytes: of all arrays together.
        what: what is going on, the line's first word: "converting".
    """
    if total_bytes < SHOWN_FROM or not sys.stderr.isatty():
        yield from stream
        return
    begun = drawn = time.monotonic()
    done = 0
    try:
        for name, array in stream:
            yield name, array  # when it comes back for the next, this one is done
            done += array.nbytes
            now = time.monotonic()
            if now - drawn >= REFRESH:
                drawn = now
                _draw(CLEAR + line(what, done, total_bytes, now - begun))
    finally:
        _draw(CLEAR)


def line(what: str, done: int, total: int, seconds: float) -> str:
    """`converting  42%  1.9 of 4.5 GB  1.20 GB/s  2 s left`: short enough for 80 columns."""
    pace = done / seconds if seconds > 0 else 0.0
    left = f"{(total - done) / pace:.0f} s left" if pace else "waiting"
    return f"{what} {done / total:4.0%}  {done / GB:.1f} of {total / GB:.1f} GB  {pace / GB:.2f} GB/s  {left}"


def _draw(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
