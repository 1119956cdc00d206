"""What a command prints is printed whatever letters stdout has, and what nobody hears or no disk holds ends no run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vit_torch
from parity_tests.runs import environment
from parity_tests.test_train_cli import TINY
from train.input.data import open_data
from train.recipes import RECIPES

UMBRELLA = "\u2602"  # neither cp1252 nor latin-1 has it
ENCODINGS = pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
LOOPS = pytest.mark.parametrize("command", ["train digits", "vit_torch.training"])
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a disk that is full")
NO_ROOM = "the progress can't be written any more (No space left on device); the run goes on, and metrics.jsonl has it"
BOUND = 300  # seconds


def run(*words: object, encoding: str = "utf-8", to: str | None = None, both: bool = False) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a module's command; with `to`, stdout is that file, and with both stderr too."""
    command = [sys.executable, "-m", *map(str, words)]
    env = environment() | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    with open(to or os.devnull, "wb") as file:
        out = file if to else subprocess.PIPE
        err = file if both else subprocess.PIPE
        done = subprocess.run(command, env=env, stdout=out, stderr=err, check=False, timeout=BOUND)
    return done.returncode, (done.stdout or b"").decode(encoding), (done.stderr or b"").decode(encoding)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of the digits, one of whose classes has a name that not every encoding has."""
    config, folder = RECIPES["digits"](), tmp_path_factory.mktemp("models") / "model"
    labels = (UMBRELLA, *map(str, range(1, 10)))
    vit = vit_torch.ViT(config.model.replace(dim=16, depth=1, num_heads=2, mlp_dim=16))
    vit.save_pretrained(folder, preprocess=open_data(config).preprocess, labels=labels)
    return folder


@ENCODINGS
def test_a_label_that_stdout_has_not_is_inspected_with_an_escape(model: Path, encoding: str):
    code, said, error = run("vit_convert", "inspect", model, encoding=encoding)
    assert (code, error) == (0, "")
    assert "\\u2602" in said


@ENCODINGS
def test_a_converted_checkpoint_whose_name_stdout_has_not_is_no_failure(model: Path, tmp_path: Path, encoding: str):
    code, said, error = run("vit_convert", model, tmp_path / UMBRELLA, "--to", "native", encoding=encoding)
    assert (code, error) == (0, "")
    assert "\\u2602" in said
    assert (tmp_path / UMBRELLA / "model.safetensors").is_file()


def test_an_evaluation_names_classes_that_stdout_has_not(model: Path):
    code, said, error = run("train", "evaluate", model, "--data", "digits", encoding="cp1252")
    assert code == 0, error
    assert "\\u2602" in said


@LOOPS
def test_a_run_in_a_folder_whose_name_stdout_has_not_comes_to_its_end(tmp_path: Path, command: str):
    workdir = tmp_path / UMBRELLA
    code, said, error = run(*command.split(), "--workdir", workdir, *TINY.split(), encoding="cp1252")
    assert code == 0, error
    assert "\\u2602" in said
    assert (workdir / "checkpoint").is_dir()


@FULL
@LOOPS
@pytest.mark.parametrize("both", [False, True], ids=["stdout", "stdout and stderr"])
def test_a_run_whose_log_has_no_room_goes_on_to_its_end(tmp_path: Path, command: str, both: bool):
    """It is said once, on stderr if that can be written, and the exit code is that of a run that is complete."""
    code, _, error = run(*command.split(), "--workdir", tmp_path, *TINY.split(), to="/dev/full", both=both)
    assert code == 0, error
    assert error.count(NO_ROOM) == (not both)
    assert "Traceback" not in error
    assert (tmp_path / "checkpoint" / "model.safetensors").is_file()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert max(row["step"] for row in rows) == 7


@FULL
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["evaluate", "MODEL", "--data", "digits"]], ids=" ".join)
def test_an_answer_that_has_no_room_is_one_message(model: Path, words: list[str]):
    code, _, error = run("train", *(model if word == "MODEL" else word for word in words), to="/dev/full")
    assert code == 1
    assert error.splitlines()[-1] == "vit-train: error: stdout can't be written: No space left on device"
    assert "Traceback" not in error


@pytest.mark.skipif(sys.platform != "linux", reason="what a terminal that is gone answers differs")
def test_a_run_whose_terminal_is_gone_goes_on_and_says_so(tmp_path: Path):
    """On a terminal rich has what is printed on stderr printed on stdout."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "train", "digits", "--workdir", str(tmp_path), *TINY.split()]
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        os.close(theirs)
        os.read(ours, 1)
        os.close(ours)
        _, error = process.communicate(timeout=BOUND)
    assert (process.returncode, error.count("; the run goes on, and metrics.jsonl has it all\n")) == (0, 1), error
    assert (tmp_path / "checkpoint" / "model.safetensors").is_file()
