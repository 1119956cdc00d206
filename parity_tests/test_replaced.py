"""A run that is to be replaced comes back whole, wherever the one that replaces it, or its return, was ended."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parity_tests.test_outputs import contents
from train.replaced import drop, put_back, set_aside

OLD = {"config.json": "old", "metrics.jsonl": "old", "checkpoint/a": "old", "steps/3/a": "old", "mine": "mine"}
NEW = {"config.json": "new", "metrics.jsonl": "", "steps/config.json": "new", "wandb/a": "new"}
BEGUN = ({"metrics.jsonl": "a row"}, {"steps/10/a": "new"}, {"checkpoint/a": "new"}, {"state/a": "new"})


class Killed(BaseException):
    """The process is gone."""


def write(workdir: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).write_text(text)


def held(workdir: Path) -> dict[str, str]:
    return {str(path.relative_to(workdir)): text.decode() for path, text in contents(workdir).items()}


def begin(workdir: Path) -> None:
    """A new run, up to where its first row would be written."""
    set_aside(workdir)
    write(workdir, NEW)


def killed_at(call: int, what: Callable[[], Any], patch: pytest.MonkeyPatch) -> bool:
    """Does it, killed before its call number `call` that changes the disk; whether there was such a call."""
    calls = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                raise Killed
            return real(*given, **more)

        return run

    with patch.context() as patched:
        for module, name in ((os, "rename"), (os, "rmdir"), (os, "unlink"), (os, "mkdir"), (shutil, "rmtree")):
            patched.setattr(module, name, counted(getattr(module, name)))
        try:
            what()
        except Killed:
            return True
    return False


def test_a_run_comes_back_from_a_new_one_that_ended_anywhere_before_it_had_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """And from a return that was ended anywhere, twice."""
    points, ended = 0, True
    for first in range(1, 99):
        for second in range(1, 99):
            workdir = tmp_path / f"{first} {second}"
            write(workdir, OLD)
            ended = killed_at(first, lambda at=workdir: begin(at), monkeypatch)
            again = killed_at(second, lambda at=workdir: put_back(at), monkeypatch)
            put_back(workdir)
            assert held(workdir) == OLD
            assert not put_back(workdir)
            points += 1
            if not again:
                break
        if not ended:
            break
    assert not ended
    assert points > 30


def test_a_run_that_was_dropped_never_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not half of it either, where its removal was ended anywhere after it had begun."""
    for call in range(1, 99):
        workdir = tmp_path / str(call)
        write(workdir, OLD)
        begin(workdir)
        ended = killed_at(call, lambda at=workdir: drop(at), monkeypatch)
        back = put_back(workdir)
        drop(workdir)
        assert held(workdir) == (OLD if back else NEW | {"mine": "mine"})
        assert back == (call == 1)  # the first is the renaming
        if not ended:
            assert call > 1
            return
    pytest.fail("it was never done")


@pytest.mark.parametrize("begun", BEGUN, ids=lambda begun: next(iter(begun)))
def test_a_new_run_that_has_a_row_or_a_step_is_not_given_up_for_the_old_one(tmp_path: Path, begun: dict[str, str]):
    """It was killed before it could drop that."""
    write(tmp_path, OLD)
    begin(tmp_path)
    write(tmp_path, begun)
    assert not put_back(tmp_path)
    assert held(tmp_path) == NEW | begun | {"mine": "mine"}


def test_what_cannot_be_removed_ends_no_run_and_is_removed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As on NFS, where TensorBoard has a file of the old run open."""

    def busy(path: Path) -> None:
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)

    for _ in range(2):
        write(tmp_path, OLD)
        begin(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", busy)
            drop(tmp_path)
        assert not put_back(tmp_path)
        drop(tmp_path)
        assert held(tmp_path) == NEW | {"mine": "mine"}
        shutil.rmtree(tmp_path)


def test_a_config_that_is_a_link_comes_back_whole(tmp_path: Path):
    """A relative one leads nowhere while it is aside: git-annex and datalad make such."""
    far, run = tmp_path / "far", tmp_path / "run"
    write(far, {"config.json": "old"})
    write(run, {name: text for name, text in OLD.items() if name != "config.json"})
    (run / "config.json").symlink_to("../far/config.json")
    begin(run)
    assert put_back(run)
    assert held(run) == OLD


def test_where_no_run_was_there_is_nothing_to_bring_back(tmp_path: Path):
    write(tmp_path, NEW)
    assert not put_back(tmp_path)
    drop(tmp_path)
    assert held(tmp_path) == NEW


def test_links_come_back_as_links(tmp_path: Path):
    """Saved steps are put on a larger disk so."""
    run, far = tmp_path / "run", tmp_path / "far"
    write(run, {"config.json": "old"})
    write(far, {"a": "old"})
    (run / "steps").symlink_to(far)
    set_aside(run)
    write(run, NEW)
    assert put_back(run)
    assert (run / "steps").is_symlink()
    assert held(far) == {"a": "old"}
    set_aside(run)
    drop(run)
    assert held(far) == {"a": "old"}
