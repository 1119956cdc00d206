"""The folder of a run: one process at a time has it, on whichever disk."""

import errno
import fcntl
import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from train.config import ConfigError
from train.errors import SavingError
from train.replaced import drop
from train.workdir import check, claimed, create, finish
from vit_convert.lock import LOCK
from vit_convert.run_folder import FORMAT


def test_a_folder_that_is_claimed_is_no_others_and_free_again_afterwards(tmp_path: Path):
    for _ in range(2):
        with claimed(tmp_path / "run"):
            with (
                pytest.raises(ConfigError, match="a run is going on there, in another process"),
                claimed(tmp_path / "run"),
            ):
                pass
            assert (tmp_path / "run" / LOCK).is_file()
        assert list((tmp_path / "run").iterdir()) == []


def test_a_file_of_the_claims_name_with_something_in_it_stays(tmp_path: Path):
    (tmp_path / LOCK).write_text("mine")
    with claimed(tmp_path), pytest.raises(ConfigError, match="a run is going on there"), claimed(tmp_path):
        pass
    assert (tmp_path / LOCK).read_text() == "mine"


def test_a_claim_is_a_file_open_for_writing_which_hosts_can_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """NFS and Lustre lock no folders across hosts."""
    locked, flock = [], fcntl.flock

    def noted(file: int, how: int) -> None:
        locked.append((stat.S_ISREG(os.fstat(file).st_mode), fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE))
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", noted)
    with claimed(tmp_path):
        assert locked == [(True, os.O_RDWR)]


@pytest.mark.parametrize("another_came", [False, True])
def test_a_file_that_its_holder_removed_meanwhile_is_no_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, another_came: bool
):
    """It was opened before that run ended: a third one would make another file, and have the folder as well."""
    flock, times = fcntl.flock, iter(range(9))

    def late(file: int, how: int) -> None:
        if next(times) == 0:
            (tmp_path / LOCK).unlink()
            if another_came:
                (tmp_path / LOCK).touch()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with claimed(tmp_path), pytest.raises(ConfigError, match="a run is going on there"), claimed(tmp_path):
        pass


def test_what_a_killed_run_left_there_is_no_claim(tmp_path: Path):
    (tmp_path / LOCK).touch()
    with claimed(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_that_locks_nothing_is_said_and_the_run_goes_on(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def refused(file: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    with claimed(tmp_path):
        said = capsys.readouterr().err
    assert said.startswith(f"vit-train: note: --workdir {tmp_path} can't be claimed ({os.strerror(number)}): ")
    assert said.count("\n") == 1


def test_a_folder_where_nothing_can_be_made_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*given: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("vit_convert.lock.os.open", full)
    with (
        pytest.raises(ConfigError, match=f"--workdir {tmp_path} can't be written: No space left on device"),
        claimed(tmp_path),
    ):
        pass


def test_a_run_that_came_to_its_end_since_the_folder_was_checked_is_not_removed(tmp_path: Path):
    """Another process had it then: its run was one that may be gone on with."""
    (tmp_path / "config.json").write_text(json.dumps({"format": FORMAT, "train_config": {}}))
    check(tmp_path, overwrite=False)
    for name in ("checkpoint", "best"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").touch()
    there = sorted(tmp_path.rglob("*"))
    with claimed(tmp_path), pytest.raises(ConfigError, match="already holds a run"):
        create(tmp_path, {"train_config": {}}, overwrite=False)
    assert sorted(tmp_path.rglob("*")) == there
    with claimed(tmp_path):
        create(tmp_path, {"train_config": {}}, overwrite=True)
        drop(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_outputs_without_a_run_are_not_said_to_be_replaceable(tmp_path: Path):
    """With --overwrite they would be refused as well."""
    (tmp_path / "checkpoint").mkdir()
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r"holds checkpoint, but no config\.json that a run wrote: nothing was"):
            check(tmp_path, overwrite=overwrite)


def test_of_a_linked_output_the_link_is_removed_and_not_what_it_leads_to(tmp_path: Path):
    """Saved steps are put on a larger disk so."""
    run, far = tmp_path / "run", tmp_path / "far"
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"format": FORMAT, "train_config": {}}))
    for name in ("checkpoint", "steps"):
        (far / name).mkdir(parents=True)
        (far / name / "kept").touch()
        (run / name).symlink_to(far / name)
    (run / "last").symlink_to(tmp_path / "nowhere")
    finish(run)
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint", "config.json", "last"]
    create(run, {"train_config": {}}, overwrite=True)
    drop(run)
    assert [path.name for path in run.iterdir()] == ["config.json"]
    assert sorted(path.parent.name for path in far.rglob("kept")) == ["checkpoint", "steps"]


def test_a_folder_that_cannot_be_removed_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def forbidden(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    (tmp_path / "config.json").write_text(json.dumps({"format": FORMAT, "train_config": {}}))
    (tmp_path / "steps").mkdir()
    monkeypatch.setattr(shutil, "rmtree", forbidden)
    with pytest.raises(SavingError, match=f"{tmp_path / 'steps'} can't be removed: Permission denied"):
        finish(tmp_path)
