"""Being told to end, by Ctrl-C, `kill` or a closed terminal: an exception, so that what is half-written goes away."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

# Those that are left as the system has them end a process at once, and what it has begun to write stays. SIGTERM is
# what `timeout` and job schedulers send; Windows has no SIGHUP.
ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(BaseException):
    """The process was told to end."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number
        self.name = signal.Signals(number).name


@contextmanager
def stoppable() -> Iterator[None]:
    """Within it, a signal that asks the process to end raises Stopped. What it was started to ignore stays ignored."""
    here = threading.current_thread() is threading.main_thread()  # no other may set them
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in ENDING if here and signal.getsignal(number) in usual}

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for other in before:
            signal.signal(other, signal.SIG_IGN)  # a second one would interrupt the tidying up
        raise Stopped(number)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
