"""A directory takes another's place in one move, and neither a kill nor an old one that can't be removed spoils it."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from parity_tests.converting import TENSORS, run, save_native
from vit_convert.files import open_tensors
from vit_convert.place import directory, repair
from vit_convert.stopping import Stopped, stoppable


def write(dst: Path, text: str) -> None:
    with directory(dst) as folder:
        (folder / "a").write_text(text)


def held(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_an_old_one_that_cannot_be_removed_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As on NFS, where another process has a file of it open."""

    def busy(*given: object, **more: object) -> None:
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))

    write(tmp_path / "model", "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", busy)
        write(tmp_path / "model", "new")
    assert held(tmp_path) == {"model/a": "new"}
    repair(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_command_that_is_ended_while_it_removes_the_old_one_leaves_the_new_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    native, rmtree, ended = save_native(tmp_path), shutil.rmtree, []
    assert run(native, tmp_path / "out", "--to", "timm") == 0

    def ending(folder: Path, *given: object, **more: object) -> None:
        if folder.name.endswith(".old") and not ended:
            ended.append(folder)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)  # the signal ends it
        rmtree(folder, ignore_errors=True)

    monkeypatch.setattr(shutil, "rmtree", ending)
    assert run(native, tmp_path / "out", "--to", "native", "--overwrite") == 128 + signal.SIGINT
    assert ended
    assert capsys.readouterr().err.endswith("vit-convert: ended by SIGINT; nothing half-written was left behind\n")
    assert {path.name for path in tmp_path.iterdir()} == {"native", "out"}
    assert open_tensors(tmp_path / "out").specs.keys() == TENSORS.keys()


def test_what_is_ended_between_the_two_moves_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def ending(source: Path, target: Path) -> None:
        rename(source, target)
        if target.name.endswith(".old"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)  # the signal ends it

    write(tmp_path / "model", "old")
    rename = os.rename
    monkeypatch.setattr(os, "rename", ending)
    with pytest.raises(Stopped), stoppable():
        write(tmp_path / "model", "new")
    assert held(tmp_path) == {"model/a": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


KILLED = """
import os, signal, sys
from pathlib import Path
from vit_convert.place import directory

rename = os.rename
def moved(source, target):
    if source.name.endswith(".part"):
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
os.rename = moved
with directory(Path(sys.argv[1])) as folder:
    (folder / "a").write_text("new")
"""


@pytest.mark.parametrize("name", ["model", "a [b] *"])
def test_what_a_killed_process_was_replacing_comes_back_and_what_it_had_begun_goes(tmp_path: Path, name: str):
    """Its neighbours stay, and so does what nobody was writing."""
    write(tmp_path / name, "old")
    write(tmp_path / "other", "other")
    mine = {f".{name}.{end}": "mine" for end in ("bak", "old", "swp", "0123456789abcdef.bak", "0123.old")}
    for path, text in mine.items():
        (tmp_path / path).write_text(text)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / name).exists()
    for _ in range(2):
        repair(tmp_path / name)
        assert held(tmp_path) == {f"{name}/a": "old", "other/a": "other"} | mine
        assert len(list(tmp_path.iterdir())) == 2 + len(mine)


def test_of_several_that_were_replaced_the_newest_comes_back(tmp_path: Path):
    """An older one is there because it couldn't be removed, or not all of it."""
    for text in ("b", "a", "c"):
        write(tmp_path / "model", text)
        os.rename(tmp_path / "model", tmp_path / f".model.{16 * text}.old")
        time.sleep(0.05)  # longer than the clock of the disk takes
        if text == "a":
            (tmp_path / f".model.{16 * 'b'}.old" / "a").unlink()
            time.sleep(0.05)
    repair(tmp_path / "model")
    assert held(tmp_path) == {"model/a": "c"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
