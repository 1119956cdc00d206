"""SIGTERM and Ctrl-C save a run's step and end it; a second one ends it at once."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from parity_tests.runs import SETTINGS, environment, past, start, steps_in, stop_at
from vit_convert.sums import damage

# The main thread is in C, where Python runs no handler; this says what came, and when the block is left.
BUSY = """
import hashlib, threading
from train.saving.interrupts import Interrupts
interrupts = Interrupts()
with interrupts.watching():
    interrupts.begun = {begun}
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", {rounds})
    print(interrupts.received, flush=True)
print(threading.active_count(), flush=True)
"""
SLOW, FAST = 200_000_000, 1_000_000


def busy(rounds: int, begun: bool = True) -> subprocess.Popen[str]:
    code = BUSY.format(rounds=rounds, begun=begun)
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_first_signal_is_remembered_and_said(number: signal.Signals):
    process = busy(FAST)
    process.send_signal(number)
    printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed) == (0, f"{int(number)}\n1\n")
    assert said == f"vit-train: {number.name}: saving, then ending; a second one ends at once\n"


def test_the_second_signal_ends_the_process_at_once():
    process = busy(SLOW)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "a second one ends at once" in process.stderr.readline()
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert time.monotonic() - begun < 10
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_first_step_ends_the_process_at_once(number: signal.Signals):
    """Programs may be compiling for minutes."""
    process = busy(SLOW, begun=False)
    begun = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - begun < 10
    assert process.returncode == 128 + number
    assert said.startswith(f"vit-train: {number.name}: ended before its first step; the same command starts again")


def test_what_the_process_ignores_stays_ignored():
    """As nohup has SIGHUP."""
    pipe = subprocess.PIPE
    code = BUSY.format(rounds=FAST, begun=True)
    process = subprocess.Popen(
        [sys.executable, "-c", f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{code}"],
        stdout=pipe,
        stderr=pipe,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=60) == ("0\n1\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_end_saves_its_step(number: signal.Signals, tmp_path: Path):
    process = start(tmp_path, "--steps", "100000", "--checkpoint.steps", "10")
    printed = stop_at(process, tmp_path, past(0), number, within=0.5)
    assert process.returncode == 128 + number
    saved = steps_in(tmp_path)[-1]
    assert damage(tmp_path / "steps" / str(saved)) is None
    assert f"vit-train: {number.name}: the last good step is saved in {tmp_path / 'steps' / str(saved)}" in printed
    assert printed.endswith("; the same command goes on from it\n")
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.slow
def test_a_signal_to_one_host_ends_all_with_one_step(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "train", "digits", "--workdir", str(tmp_path), *SETTINGS, "--steps", "100000"]
    command += ["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process-id"]
    pipe = subprocess.PIPE
    both = [
        subprocess.Popen([*command, str(i)], env=environment(), stdout=pipe, stderr=subprocess.STDOUT, text=True)
        for i in range(2)
    ]
    try:
        stop_at(both[1], tmp_path, past(8), signal.SIGTERM, within=0.5)
        first, _ = both[0].communicate(timeout=120)
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [143, 143], first
    saved = steps_in(tmp_path)[-1]
    assert f"the last good step is saved in {tmp_path / 'steps' / str(saved)}" in first
    assert damage(tmp_path / "steps" / str(saved)) is None
    process = start(tmp_path, "--steps", "100000")
    stop_at(process, tmp_path, past(saved), signal.SIGTERM)
    assert steps_in(tmp_path)[-1] > saved
    assert os.path.exists(tmp_path / "steps" / "config.json")
