"""What a command writes takes a regular file's place alone: no device's, no FIFO's and no link's."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from parity_tests.predicting import make_folder, said
from parity_tests.verify.command import main as verify
from train.errors import SavingError
from train.workdir import write_text
from vit_tools.export.command import main as export
from vit_tools.npz import write_npz


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("beside"))


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """What /dev/null is to root: nothing that a file may replace."""
    os.mkfifo(tmp_path / "given.pt2")
    return tmp_path / "given.pt2"


@pytest.mark.parametrize("option", ["--features", "--attention", "--attention-npz", "--anatomy"])
def test_vit_predict_refuses_a_device_before_the_work(folder: Path, fifo: Path, capsys, option: str):
    (fifo.parent / "link").symlink_to(fifo)  # as /dev/stdout is one
    for name in (fifo, fifo.parent / "link"):
        asked = (folder / "photos" / "a.jpg", "--checkpoint", folder / "checkpoint", option, name)
        message = f"[Errno 22] is no regular file: give the name of a file: '{name}'"
        assert said(capsys, *asked) == (2, "", f"vit-predict: error: {message}\n")
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_vit_export_refuses_a_device(folder: Path, fifo: Path, capsys):
    assert export([str(folder / "checkpoint"), str(fifo), "--overwrite"]) == 2
    message = f"vit-export: error: [Errno 22] is no regular file: give the name of a file: '{fifo}'\n"
    assert capsys.readouterr().err == message
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_vit_verify_refuses_a_device_before_the_proof(folder: Path, fifo: Path, capsys):
    assert verify([str(folder / "checkpoint"), "--report", str(fifo)]) == 2
    printed = capsys.readouterr()
    message = f"vit-verify: error: [Errno 22] is no regular file: give the name of a file: '{fifo}'\n"
    assert (printed.out, printed.err) == ("", message)
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_run_refuses_a_device(fifo: Path):
    with pytest.raises(SavingError, match="is no regular file: give the name of a file"):
        write_text(fifo, "{}")
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert list(fifo.parent.iterdir()) == [fifo]


@pytest.mark.parametrize("there", [True, False], ids=["file", "nothing"])
def test_what_a_link_leads_to_is_written_and_the_link_stays(folder: Path, tmp_path: Path, capsys, there: bool):
    target, link = tmp_path / "deep" / "store", tmp_path / "f.npz"
    target.parent.mkdir()
    if there:
        target.write_text("old")
    link.symlink_to(Path("deep") / "store")
    asked = (folder / "photos" / "a.jpg", "--checkpoint", folder / "checkpoint", "--features", link)
    assert said(capsys, *asked)[0] == 0
    assert link.readlink() == Path("deep") / "store"
    with np.load(target) as found:
        assert found["paths"].tolist() == [str(folder / "photos" / "a.jpg")]
    assert sorted(tmp_path.rglob("*")) == [target.parent, target, link]


def test_a_picture_behind_a_link_is_a_picture_whatever_the_name_of_the_file(folder: Path, tmp_path: Path, capsys):
    link = tmp_path / "a.png"
    link.symlink_to("store.bin")
    assert said(capsys, "--checkpoint", folder / "checkpoint", "--anatomy", link)[0] == 0
    assert link.is_symlink()
    assert (tmp_path / "store.bin").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path, mode: int):
    path = tmp_path / "f.npz"
    path.write_text("old")
    path.chmod(mode)
    write_npz(path, [("x", np.arange(3))])
    assert stat.S_IMODE(path.stat().st_mode) == mode
    with np.load(path) as found:
        assert found["x"].tolist() == [0, 1, 2]


def test_a_link_that_leads_to_itself_is_an_error_and_stays(tmp_path: Path):
    link = tmp_path / "f.npz"
    link.symlink_to(link)
    with pytest.raises(OSError, match=r"f\.npz"):
        write_npz(link, [("x", np.arange(3))])
    assert list(tmp_path.iterdir()) == [link]
    assert link.is_symlink()
