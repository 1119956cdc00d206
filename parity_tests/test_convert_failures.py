"""vit-convert that can't finish, or is ended half-way, leaves what was there before and nothing else."""

import errno
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from parity_tests.converting import CONFIG, TENSORS, fails, run, save_native
from vit_convert.checkpoint import save_checkpoint
from vit_convert.errors import CheckpointError


@pytest.fixture
def native(tmp_path):
    return save_native(tmp_path)


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_failure_while_writing_loses_nothing(native, tmp_path, overwrite):
    """The source breaks in the middle, and the message says that; what was there before is there, and nothing else."""
    out = native if overwrite else tmp_path / "out"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def breaks():
        yield from list(TENSORS.items())[:5]
        raise OSError(errno.EIO, os.strerror(errno.EIO), "the source.npz")

    dtypes = {name: array.dtype for name, array in TENSORS.items()}
    said = r"^a tensor to be written can't be read: \[Errno 5\] Input/output error: 'the source\.npz'$"
    with pytest.raises(CheckpointError, match=said):
        save_checkpoint(out, CONFIG, breaks(), dtypes=dtypes, overwrite=overwrite)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [native]


def test_a_place_that_is_not_permitted_is_named(native, tmp_path, monkeypatch, capsys):
    def refuse(self, *arguments, **more):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    error = fails(capsys, native, tmp_path / "out", "--to", "flax")
    assert error == f"vit-convert: error: {tmp_path}/out: can't be written: Permission denied\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_command_that_is_ended_half_way_leaves_nothing(native, tmp_path, monkeypatch, capsys, number):
    """By Ctrl-C, `kill` or `timeout`, or a closed terminal; and again, impatiently, while it tidies up."""
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    handler = signal.getsignal(number)

    def ended(*arguments):
        assert list(tmp_path.glob(".out.*.part"))
        os.kill(os.getpid(), number)
        time.sleep(60)  # the signal ends it

    def again(folder, *arguments, **more):
        os.kill(os.getpid(), number)
        rmtree(folder, *arguments, **more)

    rmtree = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", again)
    monkeypatch.setattr("vit_convert.save.write_tensors", ended)
    assert run(native, tmp_path / "out", "--to", "flax") == 128 + number
    assert capsys.readouterr().err == f"vit-convert: ended by {number.name}; nothing half-written was left behind\n"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [native]
    assert signal.getsignal(number) == handler


def test_a_command_that_outlives_its_terminal_is_left_alone(native, tmp_path, monkeypatch):
    """`nohup` has SIGHUP ignored: that stays."""
    from vit_convert.save import write_tensors

    def hung_up(*arguments):
        os.kill(os.getpid(), signal.SIGHUP)
        write_tensors(*arguments)

    monkeypatch.setattr("vit_convert.save.write_tensors", hung_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(native, tmp_path / "out", "--to", "flax") == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_more_than_the_memory_holds_is_one_message_and_leaves_nothing(native, tmp_path, monkeypatch, capsys):
    """As NumPy says of --image-size 1600000; a test that asks for it would be killed where memory is overcommitted."""

    def too_large(*arguments):
        raise MemoryError("Unable to allocate 14.0 TiB for an array")

    monkeypatch.setattr("vit_convert.save.write_tensors", too_large)
    error = fails(capsys, native, tmp_path / "out", "--to", "flax")
    assert error == "vit-convert: error: not enough memory: Unable to allocate 14.0 TiB for an array\n"
    assert list(tmp_path.iterdir()) == [native]
