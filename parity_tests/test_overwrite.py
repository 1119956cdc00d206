"""A run that --overwrite is to replace is still there when the new one is refused."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from parity_tests.datasets import jpegs, write_folder
from parity_tests.test_outputs import contents
from train.__main__ import main as vit_train
from train.recipes import RECIPES
from vit_torch.training import main as torch_train

TINY = "--model.dim 16 --model.mlp-dim 32 --model.depth 2 --model.num-heads 2 --batch-size 100 --steps 2"
SETTINGS = {"format": "vit-parity-run", "version": 1, "recipe": "digits"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("overwrite") / "run"
    vit_train(["digits", "--workdir", str(folder), *TINY.split()])
    return folder


@pytest.fixture
def spoilt(trained: Path, tmp_path: Path) -> Path:
    """Its checkpoint, with a value that is no number in its last tensor."""
    shutil.copytree(trained / "checkpoint", tmp_path / "spoilt")
    file = tmp_path / "spoilt" / "model.safetensors"
    tensors = load_file(file)
    tensors[max(tensors)].reshape(-1)[-1] = float("nan")
    save_file(tensors, file)
    return tmp_path / "spoilt"


def test_weights_that_are_no_numbers_are_refused_before_vit_train_replaces_a_run(
    trained: Path, spoilt: Path, capsys: pytest.CaptureFixture[str]
):
    before = contents(trained)
    with pytest.raises(SystemExit) as stop:
        vit_train(["digits", "--workdir", str(trained), "--overwrite", "--init", str(spoilt), "--steps", "2"])
    assert stop.value.code == 2
    name = max(load_file(spoilt / "model.safetensors"))
    expected = f"{name} has values that are infinite or no number: nothing can be learned from it"
    assert expected in capsys.readouterr().err
    assert contents(trained) == before


def test_weights_that_are_no_numbers_are_refused_before_the_torch_loop_replaces_a_run(
    spoilt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    settings, run = tmp_path / "config.json", str(tmp_path / "run")
    settings.write_text(json.dumps(SETTINGS | {"train_config": RECIPES["digits"]().to_dict()}))
    torch_train([str(settings), "--workdir", run, *TINY.split()])
    before = contents(tmp_path)
    with pytest.raises(SystemExit) as stop:
        torch_train([str(settings), "--workdir", run, "--overwrite", "--init", str(spoilt), "--steps", "2"])
    assert stop.value.code == 2
    assert "has values that are infinite or no number: nothing can be learned from it" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_run_is_back_where_the_images_of_the_new_one_are_unreadable(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """That is found when the first batch is made."""
    for split in ("train", "test"):
        write_folder(tmp_path / split, [(image[:200], label) for image, label in jpegs(9)])
    before = contents(trained)
    data = ["--data.name", f"folder:{tmp_path}", "--model.in-channels", "3", "--model.num-classes", "2"]
    rest = ["--data.mean", "0.5", "0.5", "0.5", "--data.std", "1", "1", "1", *TINY.split(), "--batch-size", "4"]
    with pytest.raises(SystemExit) as stop:
        vit_train(["digits", "--workdir", str(trained), "--overwrite", *data, *rest])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "images can't be decoded" in error
    assert f"vit-train: note: --workdir {trained} holds the run again that was to be replaced\n" in error
    assert contents(trained) == before


def test_a_run_is_replaced_by_one_that_begins(trained: Path, tmp_path: Path):
    """Nothing of it is left, under another name either."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "last" / "of the old one").mkdir(parents=True, exist_ok=True)
    vit_train(["digits", "--workdir", str(run), "--overwrite", "--seed", "1", *TINY.split()])
    names = {path.name for path in run.iterdir()}
    assert names == {path.name for path in trained.iterdir()}
    assert not (run / "last" / "of the old one").exists()
    assert json.loads((run / "config.json").read_text())["train_config"]["seed"] == 1


@pytest.mark.parametrize("where", ["state", "checkpoint/photos"])
def test_the_images_of_a_run_are_not_removed_with_the_one_that_it_replaces(
    where: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Named as they are, or by a link, in both trainers."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for split in ("train", "test"):
        write_folder(run / where / split, jpegs(9))
    (tmp_path / "link").symlink_to(run / where)
    before = contents(tmp_path)
    for place in (run / where, tmp_path / "link"):
        data = ["--data.name", f"folder:{place}", "--model.in-channels", "3", "--model.num-classes", "2"]
        data += ["--data.mean", "0.5", "0.5", "0.5", "--data.std", "1", "1", "1", "--batch-size", "4"]
        for train, command in ((vit_train, "digits"), (torch_train, str(run / "config.json"))):
            with pytest.raises(SystemExit) as stop:
                train([command, "--workdir", str(run), "--overwrite", *TINY.split(), *data])
            assert stop.value.code == 2
            said = f"data.name folder:{place} lies in --workdir {run}, whose run --overwrite removes"
            assert said in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_weights_that_are_linked_from_the_run_are_not_removed_with_it(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run, link = tmp_path / "run", tmp_path / "link"
    shutil.copytree(trained, run)
    link.mkdir()
    shutil.copy(run / "checkpoint" / "config.json", link)
    (link / "model.safetensors").symlink_to(run / "checkpoint" / "model.safetensors")
    before = contents(tmp_path)
    with pytest.raises(SystemExit) as stop:
        vit_train(["digits", "--workdir", str(run), "--overwrite", "--init", str(link), "--steps", "2"])
    assert stop.value.code == 2
    assert f"--init {link} lies in --workdir {run}, whose run --overwrite removes" in capsys.readouterr().err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("linked", [False, True])
def test_the_torch_loop_does_not_remove_the_weights_that_it_starts_from(
    linked: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    settings, run = tmp_path / "config.json", tmp_path / "run"
    settings.write_text(json.dumps(SETTINGS | {"train_config": RECIPES["digits"]().to_dict()}))
    torch_train([str(settings), "--workdir", str(run), *TINY.split()])
    init = run / "checkpoint"
    if linked:
        init = tmp_path / "link"
        init.mkdir()
        shutil.copy(run / "checkpoint" / "config.json", init)
        (init / "model.safetensors").symlink_to(run / "checkpoint" / "model.safetensors")
    before = contents(tmp_path)
    with pytest.raises(SystemExit) as stop:
        torch_train([str(settings), "--workdir", str(run), "--overwrite", "--init", str(init), "--steps", "2"])
    assert stop.value.code == 2
    assert f"init {init} lies in --workdir {run}, whose run --overwrite" in capsys.readouterr().err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.slow
def test_a_run_is_back_where_the_new_one_is_ended_before_its_first_step(
    number: signal.Signals, trained: Path, tmp_path: Path
):
    """While it compiles: at once, or where the process was killed with the next start there."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = contents(run)
    command = [sys.executable, "-m", "train", "digits", "--workdir", str(run), "--seed", "1", *TINY.split()]
    pipes: dict[str, Any] = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = subprocess.Popen([*command, "--overwrite"], **pipes)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("digits: ")
    process.send_signal(number)
    _, error = process.communicate(timeout=100)
    note = f"vit-train: note: --workdir {run} holds the run again that was to be replaced\n"
    if number == signal.SIGTERM:
        assert process.returncode == 128 + number
        assert error.endswith(note)
    else:
        assert (run / ".replaced" / "checkpoint").is_dir()
        again = subprocess.run(command, check=False, **pipes)
        assert again.returncode == 2
        assert note in again.stderr
        assert f"--workdir {run} already holds a run" in again.stderr
    (run / ".lock").unlink(missing_ok=True)
    assert contents(run) == before


class LoggedOut(ModuleType):
    """A wandb without a login, as it is in a job that nobody answers."""

    def login(self) -> None:
        raise RuntimeError("No API key configured.")


def test_a_missing_login_at_wandb_is_said_before_a_run_is_replaced(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    before = contents(trained)
    monkeypatch.setitem(sys.modules, "wandb", LoggedOut("wandb"))
    monkeypatch.setattr("train.sinks.find_spec", lambda name: name)
    with pytest.raises(SystemExit) as stop:
        vit_train(["digits", "--workdir", str(trained), "--overwrite", "--log.wandb", "vits", *TINY.split()])
    assert stop.value.code == 2
    assert "--log.wandb vits: W&B says: No API key configured." in capsys.readouterr().err
    assert contents(trained) == before
