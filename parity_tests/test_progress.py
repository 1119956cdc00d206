"""Progress: one line on a terminal for what takes long, nothing elsewhere, and it is gone however the work ends."""

import io
from types import SimpleNamespace

import numpy as np
import pytest

from vit_convert import progress
from vit_convert.progress import shown

ARRAYS = [(f"tensor{i}", np.full(2, i, np.float64)) for i in range(4)]
TOTAL = 4 * 16


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Each look at it is a second later."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def terminal(monkeypatch):
    fake = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=fake))  # pytest puts its own into the real one
    monkeypatch.setattr(progress, "time", Clock())
    monkeypatch.setattr(progress, "SHOWN_FROM", TOTAL)
    monkeypatch.setattr(progress, "GB", 10.0)
    return fake


def lines(terminal):
    return terminal.getvalue().split(progress.CLEAR)


def test_the_line_says_how_far_how_fast_and_how_long(terminal):
    assert list(shown(iter(ARRAYS), TOTAL, "converting")) == ARRAYS
    assert lines(terminal) == [
        "",
        "converting  25%  1.6 of 6.4 GB  1.60 GB/s  3 s left",
        "converting  50%  3.2 of 6.4 GB  1.60 GB/s  2 s left",
        "converting  75%  4.8 of 6.4 GB  1.60 GB/s  1 s left",
        "converting 100%  6.4 of 6.4 GB  1.60 GB/s  0 s left",
        "",
    ]


def test_the_line_is_gone_at_the_end_and_after_an_error(terminal):
    def breaks():
        yield from ARRAYS[:2]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        list(shown(breaks(), TOTAL, "converting"))
    assert terminal.getvalue().endswith(progress.CLEAR)


def test_the_line_is_drawn_a_few_times_a_second_at_most(terminal, monkeypatch):
    monkeypatch.setattr(progress, "REFRESH", 2.0)
    list(shown(iter(ARRAYS), TOTAL, "converting"))
    assert len(lines(terminal)) == 2 + 2


def test_what_is_done_at_once_shows_nothing(terminal):
    assert list(shown(iter(ARRAYS), TOTAL - 1, "converting")) == ARRAYS
    assert terminal.getvalue() == ""


def test_what_is_no_terminal_gets_nothing(terminal, monkeypatch):
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    assert list(shown(iter(ARRAYS), TOTAL, "converting")) == ARRAYS
    assert terminal.getvalue() == ""
