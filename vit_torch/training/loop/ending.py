"""Being told to end while steps are made: the first signal is remembered, and the loop saves and ends after its step; a
second one ends the process at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vit_convert.stopping import ENDING


class Told:
    """The number of the signal that came, or 0."""

    number = 0


@contextmanager
def told_to_end() -> Iterator[Told]:
    """Within it, a signal that asks the process to end is remembered. What it was started to ignore stays ignored."""
    told = Told()
    here = threading.current_thread() is threading.main_thread()  # no other may set them
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in ENDING if here and signal.getsignal(number) in usual}

    def remember(number: int, frame: FrameType | None) -> None:
        told.number = number
        for other, handler in before.items():
            signal.signal(other, handler)

    for number in before:
        signal.signal(number, remember)
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
