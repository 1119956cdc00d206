"""A run that --overwrite is to replace is still there when the new one is refused."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from safetensors.numpy import load_file, save_file

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
