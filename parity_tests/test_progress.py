"""Progress: one line on a terminal for what takes long, nothing elsewhere, and it is gone however the work ends."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from parity_tests.strategies import random_tensors
from vit_convert import progress
from vit_convert.checkpoint import save_checkpoint
from vit_convert.config import ViTConfig
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


COMMAND = """
import sys
from vit_convert import __main__, progress
progress.SHOWN_FROM, progress.REFRESH = 1, 0.0
sys.exit(__main__.main(sys.argv[1:]))
"""


def stderr_of(arguments, terminal):
    """What the command writes to stderr, be that a terminal or a pipe; a tiny file is large to it."""
    ours, its = os.openpty() if terminal else os.pipe()
    command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=its)
    os.close(its)
    heard = b""
    try:
        while piece := os.read(ours, 4096):
            heard += piece
    except OSError:  # how Linux ends a terminal whose other side is closed
        pass
    os.close(ours)
    assert process.wait() == 0, heard
    return heard.decode()


@pytest.mark.parametrize("what", ["converting", "inspecting"])
def test_the_commands_show_it_on_a_terminal_and_write_nothing_into_a_pipe(tmp_path, what):
    config = ViTConfig(image_size=4, patch_size=2, dim=8, depth=2, num_heads=2, mlp_dim=16, num_classes=3)
    save_checkpoint(tmp_path / "native", config, random_tensors(config).items())
    converting = (tmp_path / "native", tmp_path / "flax", "--to", "flax", "--overwrite")
    arguments = converting if what == "converting" else ("inspect", tmp_path / "native")
    drawn = stderr_of(arguments, terminal=True)
    percents = re.findall(rf"{what} +(\d+)%", drawn)
    assert percents == sorted(percents, key=int)
    assert (len(percents), percents[-1]) == (len(random_tensors(config)), "100")
    assert drawn.endswith(progress.CLEAR)
    assert stderr_of(arguments, terminal=False) == ""
