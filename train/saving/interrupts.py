"""Being told to end: SIGTERM, Ctrl-C, a closed terminal. While steps are made, the first is remembered for the loop,
which saves its step and ends; a second one ends the process at once, and so does one before the first step.

Python runs its handlers between two bytecodes of the main thread, which may be waiting for the device for a minute. So
a thread of its own is told: the system writes each signal's number into a pipe (signal.set_wakeup_fd).
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from train.errors import SavingError
from vit_convert.stopping import ENDING


class Interrupts:
    """The signal that came, by its number; 0: none."""

    def __init__(self) -> None:
        self.received = 0
        self.begun = False  # there is something to save
        self.unbegun: Callable[[], None] = lambda: None  # called before the process ends without having begun

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within it signals are remembered. What the process was started to ignore (nohup) stays ignored."""
        if threading.current_thread() is not threading.main_thread():  # no other may set handlers
            yield
            return
        usual = (signal.SIG_DFL, signal.default_int_handler)
        before = {number: signal.getsignal(number) for number in ENDING if signal.getsignal(number) in usual}
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        listener = threading.Thread(target=self._listen, args=(reading, set(before)), daemon=True)
        listener.start()
        others = signal.set_wakeup_fd(writing)
        for number in before:
            signal.signal(number, lambda number, frame: None)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(others)
            os.close(writing)
            listener.join()
            os.close(reading)

    def _listen(self, reading: int, known: set[int]) -> None:
        while came := os.read(reading, 1):
            if came[0] in known:
                self._take(came[0])

    def _take(self, number: int) -> None:
        """A process in which XLA compiles, in whichever thread, can't be taken down but at once."""
        name = signal.Signals(number).name
        if not self.begun:
            _say(f"vit-train: {name}: ended before its first step; the same command starts again from there")
            with suppress(SavingError):  # where it is, the next start brings it back
                self.unbegun()
        if self.received or not self.begun:
            os._exit(128 + number)
        self.received = number
        _say(f"vit-train: {name}: saving, then ending; a second one ends at once")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
