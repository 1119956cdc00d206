"""A full disk ends a run with one message that names the last good step, and nothing half-written stays."""

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

import vit_torch
from parity_tests.runs import environment
from parity_tests.test_saved_steps import random_state, saver_in, write_nothing
from parity_tests.test_train_cli import TINY
from train.__main__ import main
from train.errors import SavingError
from train.input.data import open_data
from train.journal import Journal
from train.pictures import new_figure, save_png
from train.progress import Report
from train.recipes import RECIPES
from train.saving.best import Best
from train.saving.native import Native
from train.saving.quiet import quiet
from train.workdir import create, write_text
from vit_convert.training_state import read_state
from vit_torch.training import main as train_in_torch

FULL = "No space left on device"
Fill = Callable[[str], None]


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch) -> Fill:
    """From now on nothing of this name comes to be there."""
    replace = os.replace

    def call(name: str) -> None:
        def full(source: Any, target: Any) -> None:
            if Path(target).name == name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            replace(source, target)

        monkeypatch.setattr(os, "replace", full)

    return call


def test_a_text_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, fill: Fill):
    write_text(tmp_path / "config.json", "before")
    fill("config.json")
    with pytest.raises(SavingError, match=f"{tmp_path / 'config.json'} can't be written: {FULL}"):
        write_text(tmp_path / "config.json", "after")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("config.json", "before")]


def test_a_row_that_cannot_be_written_is_one_message():
    """/dev/full is a disk that is."""
    with (
        pytest.raises(SavingError, match=f"/dev/full can't be written: {FULL}"),
        Journal(Path("/dev/full"), Report(9, quiet=True)) as journal,
    ):
        journal.write({"step": 1})


def test_a_picture_that_cannot_be_written_is_one_message(tmp_path: Path, fill: Fill):
    fill("curves.png")
    with pytest.raises(SavingError, match=f"{tmp_path / 'curves.png'} can't be written: {FULL}"):
        save_png(new_figure(1, 1), tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


def test_a_new_run_that_has_no_room_says_so(tmp_path: Path, fill: Fill):
    fill("config.json")
    with pytest.raises(SavingError, match=f"{tmp_path / 'config.json'} can't be written: {FULL}"):
        create(tmp_path, {"train_config": {}}, overwrite=False)


def test_a_record_of_the_best_weights_that_has_no_room_says_so(tmp_path: Path, fill: Fill):
    fill("best.json")
    best = Best(write_nothing, tmp_path / "best", tmp_path / "best.json")
    with pytest.raises(SavingError, match=f"{tmp_path / 'best.json'} can't be written: {FULL}"):
        best.judged(1, 0.5, {})


def test_a_folder_of_steps_that_has_no_room_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*given: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    nothing: Any = None
    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(SavingError, match=f"{tmp_path / 'steps'} can't be written: {FULL}"):
        Native(nothing, nothing, nothing).describe(tmp_path / "steps")


def test_the_message_names_the_last_good_step(tmp_path: Path):
    """That which is being written is waited for."""
    with saver_in(tmp_path / "steps") as saver:
        with pytest.raises(SavingError, match="x can't be written; no step was saved yet"), saver.naming():
            raise SavingError("x can't be written")
        saver.save(2, random_state(2), ())
        left = f"x can't be written; the last good step is saved in {tmp_path / 'steps' / '2'}"
        with pytest.raises(SavingError, match=left), saver.naming():
            raise SavingError("x can't be written")


def test_a_step_that_cannot_be_saved_is_not_the_last_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nor is it waited for again, when the run is left."""

    def full(*given: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with saver_in(tmp_path / "steps") as saver:
        saver.save(2, random_state(2), ())
        saver.wait()
        monkeypatch.setattr(saver.manager, "save", full)
        with pytest.raises(SavingError) as error, saver.naming():
            saver.save(3, random_state(3), ())
    steps = tmp_path / "steps"
    assert str(error.value).startswith(f"{steps / '3'} can't be saved: ")
    assert str(error.value).endswith(f"{FULL}; the last good step is saved in {steps / '2'}")


def test_a_picture_of_an_evaluation_that_has_no_room_is_one_message(
    tmp_path: Path, fill: Fill, capsys: pytest.CaptureFixture[str]
):
    config = RECIPES["digits"]()
    model = vit_torch.ViT(config.model.replace(dim=16, depth=1, num_heads=2, mlp_dim=16))
    model.save_pretrained(tmp_path / "model", preprocess=open_data(config).preprocess)
    fill("confusion.png")
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(tmp_path / "model"), "--data", "digits", "--confusion", str(tmp_path / "confusion.png")])
    assert stop.value.code == 1
    assert capsys.readouterr().err == f"vit-train: error: {tmp_path / 'confusion.png'} can't be written: {FULL}\n"


@pytest.mark.parametrize(("place", "why"), [("/dev/full", FULL), (".", "Is a directory")])
def test_a_row_of_the_torch_loop_that_cannot_be_written_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, why: str
):
    """Not 1, the exit code of a run that diverged; its state stays."""
    words = [*TINY.split(), "--workdir", str(tmp_path)]
    train_in_torch([*words, "--stop-after", "1"])
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").symlink_to(place)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        train_in_torch(words)
    assert stop.value.code == 2
    said = f"vit_torch.training: error: {tmp_path / 'metrics.jsonl'} can't be written: {why}\n"
    assert capsys.readouterr().err == said
    assert read_state(tmp_path / "state").step == 1


def test_rows_of_the_torch_loop_that_cannot_be_taken_back_are_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fill: Fill
):
    words = [*TINY.split(), "--workdir", str(tmp_path)]
    train_in_torch([*words, "--stop-after", "2"])
    rows = (tmp_path / "metrics.jsonl").read_text()
    fill("metrics.jsonl")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        train_in_torch(words)
    assert stop.value.code == 2
    said = f"vit_torch.training: error: {tmp_path / 'metrics.jsonl'} can't be written: {FULL}\n"
    assert capsys.readouterr().err == said
    assert (tmp_path / "metrics.jsonl").read_text() == rows


@pytest.mark.slow
def test_a_run_whose_disk_is_full_says_where_it_can_be_gone_on_with(
    tmp_path: Path, fill: Fill, capsys: pytest.CaptureFixture[str]
):
    fill("curves.png")
    with jax.enable_x64(False), pytest.raises(SystemExit) as stop:
        main(["digits", "--workdir", str(tmp_path / "run"), *TINY.split(), "--checkpoint.steps", "3"])
    assert stop.value.code == 1
    run = tmp_path / "run"
    left = f"the last good step is saved in {run / 'steps' / '6'}"
    assert capsys.readouterr().err == f"vit-train: error: {run / 'curves.png'} can't be written: {FULL}; {left}\n"


@pytest.mark.slow
def test_of_a_step_that_has_no_room_nothing_is_printed_but_one_message(tmp_path: Path):
    """A limit on the size of each file stands in for the disk, so that Orbax's own writing fails."""
    run = tmp_path / "run"
    words = ["digits", "--workdir", str(run), *TINY.split(), "--eval-epochs", "9", "--checkpoint.steps", "3"]
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash", sys.executable, "-m", "train", *words]  # KiB
    done = subprocess.run(limited, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 1
    assert done.stderr.startswith(f"vit-train: error: {run / 'steps' / '3'} can't be saved: ")
    assert done.stderr.endswith("; no step was saved yet\n")
    assert done.stderr.count("\n") == 1


def test_what_else_is_logged_or_can_not_be_raised_is_still_told_while_steps_are_saved(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def late(error: Exception) -> SimpleNamespace:
        return SimpleNamespace(exc_type=type(error), exc_value=error, exc_traceback=None, err_msg=None, object=late)

    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    errors = [late(RuntimeError("Event loop is closed")), late(ValueError("another"))]
    with quiet():
        logging.getLogger("absl").error("of another kind")
        for error in errors:
            sys.unraisablehook(error)  # pyright: ignore[reportArgumentType]
    assert told == errors
    assert caplog.messages == ["of another kind"]
    assert sys.unraisablehook == told.append
