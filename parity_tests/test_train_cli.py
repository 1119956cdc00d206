"""vit-train trains from the command line, leaves a complete run, and says in one message what is wrong."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

import vit_flax
import vit_torch
from parity_tests.compare import gap
from parity_tests.datasets import jpegs, write_folder
from parity_tests.tolerances import FLOAT32_CHAIN
from train.__main__ import RESERVED, main, parse
from train.config.paths import check_local
from train.curves import leave_curves, read_rows
from train.input.data import open_data
from train.journal import Journal
from train.recipes import RECIPES
from train.run import run as train
from vit_convert.layouts import get_layout
from vit_convert.table import from_layout

TINY = "--model.dim 16 --model.mlp-dim 32 --model.depth 1 --model.num-heads 2 --batch-size 100 --log.steps 2 --steps 7"
TINY += " --eval-epochs 0.3 --augment.mixup-alpha 0 --augment.cutmix-alpha 0"  # a Beta takes seconds to compile
Fails = Callable[[str], str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A very short run by the command itself: its folder, and what it printed."""
    workdir = tmp_path_factory.mktemp("runs") / "digits"
    command = [sys.executable, "-m", "train", "digits", "--workdir", str(workdir), *TINY.split()]
    env = {name: value for name, value in os.environ.items() if name != "JAX_ENABLE_X64"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Arguments -> what the command writes to stderr on its way out with code 2."""

    def call(arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(arguments.split())
        assert stop.value.code == 2
        return capsys.readouterr().err

    return call


def test_a_run_leaves_everything_and_nothing_else(run: tuple[Path, str]):
    workdir, _ = run
    weights = {"checkpoint", "best", "last"}
    files = {"config.json", "metrics.jsonl", "curves.png", "confusion.png", "classes.json"}
    assert {path.name for path in workdir.iterdir()} == files | weights
    for name in weights:
        assert {path.name for path in (workdir / name).iterdir()} == {"config.json", "model.safetensors"}
    config = json.loads((workdir / "config.json").read_text())
    assert config["recipe"] == "digits"
    assert config["checkpoint_weights"] == "ema"
    assert config["train_config"]["model"]["dim"] == 16
    with Image.open(workdir / "curves.png") as picture:
        assert min(picture.size) >= 600
        assert len(picture.convert("RGB").getcolors(2**24) or []) > 50


def test_metrics_have_a_line_for_each_stretch_and_each_evaluation(run: tuple[Path, str]):
    rows = [json.loads(line) for line in (run[0] / "metrics.jsonl").read_text().splitlines()]
    train, test = [r for r in rows if "loss" in r], [r for r in rows if "test_accuracy" in r]
    assert [r["step"] for r in train] == [2, 4, 6, 7]
    assert [r["step"] for r in test] == [4, 7]  # every 0.3 of 14 steps, and the end
    assert all(r["images_per_second"] > 0 and r["grad_norm"] > 0 for r in train)
    assert train[-1]["epoch"] == 7 / 14
    assert all(r["test_count"] == 360 and r["test_correct"] / 360 == r["test_accuracy"] for r in test)


@pytest.mark.slow
def test_best_last_and_checkpoint_are_the_weights_that_their_names_say(tmp_path: Path):
    """As PyTorch loads them: the best evaluation's, the last step's own, and the last step's average."""
    found = parse(["digits", "--workdir", "x", *TINY.split(), "--steps", "30", "--ema-decay", "0.5"]).config
    fast = replace(found, schedule=replace(found.schedule, learning_rate=0.1, warmup_epochs=0, final_fraction=1.0))
    result = train(fast, tmp_path / "run", recipe="digits")
    state, rows = result.state, read_rows(tmp_path / "run" / "metrics.jsonl")
    accuracies = [row["test_accuracy"] for row in rows if "test_accuracy" in row]
    assert result.best.step < 30, "the best evaluation is the last: the test says nothing of it"
    assert state.ema is not None
    for name, params in {"last": state.params, "checkpoint": state.ema}.items():
        held = {path: np.asarray(x) for path, x in params.items()}
        expected = dict(from_layout(get_layout("flax"), fast.model, held.items()))
        model = vit_torch.ViT.from_pretrained(tmp_path / "run" / name)
        assert {n: p.detach().numpy().tobytes() for n, p in model.named_parameters()} == {
            n: np.ascontiguousarray(x).tobytes() for n, x in expected.items()
        }
    test = open_data(fast).whole_test
    best = vit_torch.ViT.from_pretrained(tmp_path / "run" / "best")
    assert best.preprocess is not None
    images = np.stack([best.preprocess(Image.fromarray(image[:, :, 0])) for image in test.images])
    with torch.no_grad():
        classes = best(torch.tensor(images).permute(0, 3, 1, 2)).argmax(-1).numpy()
    assert (classes == test.labels).mean() == result.best.accuracy == max(accuracies) > accuracies[-1]


def test_each_class_is_told_and_together_they_are_the_accuracy(run: tuple[Path, str]):
    workdir, _ = run
    classes = json.loads((workdir / "classes.json").read_text())
    assert [row["name"] for row in classes] == list("0123456789")
    last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    assert sum(row["correct"] for row in classes) == last["test_correct"]
    assert sum(row["count"] for row in classes) == last["test_count"] == 360


def test_the_printed_accuracy_is_the_checkpoints_in_both_frameworks(run: tuple[Path, str]):
    """Counted anew, one image at a time as it were: what the run says of 360 images in batches of 100."""
    workdir, printed = run
    flax, torch_model = (package.ViT.from_pretrained(workdir / "checkpoint") for package in (vit_flax, vit_torch))
    assert flax.preprocess is not None
    assert flax.labels == tuple("0123456789")
    test = open_data(RECIPES["digits"]()).whole_test
    images = np.stack([flax.preprocess(Image.fromarray(image[:, :, 0])) for image in test.images])
    ours = np.asarray(flax(jnp.asarray(images)))
    with torch.no_grad():
        theirs = torch_model(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    assert gap(ours, theirs) < FLOAT32_CHAIN
    row = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    assert (theirs.argmax(-1) == test.labels).sum() == row["test_correct"]
    loss = torch.nn.functional.cross_entropy(torch.tensor(theirs), torch.tensor(test.labels).long())
    assert gap(row["test_loss"], loss.item()) < FLOAT32_CHAIN
    assert f"held-out accuracy {row['test_accuracy']:.2%}" in printed


@pytest.mark.slow
def test_the_same_run_gives_the_same_bits(run: tuple[Path, str], tmp_path: Path):
    """In another process, too."""
    with jax.enable_x64(False):
        main(["digits", "--workdir", str(tmp_path), *TINY.split()])
    weights = "checkpoint/model.safetensors"
    assert (tmp_path / weights).read_bytes() == (run[0] / weights).read_bytes()


@pytest.mark.slow
def test_another_seed_gives_another_run(run: tuple[Path, str], tmp_path: Path):
    with jax.enable_x64(False):
        main(["digits", "--workdir", str(tmp_path), *TINY.split(), "--seed", "1"])
    first, other = (load_file(folder / "checkpoint/model.safetensors") for folder in (run[0], tmp_path))
    assert all((first[name] != other[name]).any() for name in first)
    rows = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (run[0], tmp_path)]
    assert all(json.loads(a)["loss"] != json.loads(b)["loss"] for a, b in zip(*rows, strict=True) if '"loss"' in a)


@pytest.mark.parametrize("saved", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.slow
def test_a_diverging_run_says_where_and_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str], saved: bool):
    arguments = "--schedule.learning-rate 1e30 --schedule.warmup-epochs 0"
    arguments += " --checkpoint.steps 1" if saved else ""
    with jax.enable_x64(False), pytest.raises(SystemExit) as stop:
        main(["digits", "--workdir", str(tmp_path / "run"), *TINY.split(), *arguments.split()])
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert "the loss is nan at step 2, with learning rate" in error
    aside = tmp_path / "run" / "steps" / "damaged"
    spoilt = f"step 1 was saved with the weights that gave it, and is set aside in {aside}; no step before it is left"
    assert error.endswith(f"; {spoilt if saved else 'no step was saved yet'}\n")
    assert (aside / "1").is_dir() == saved
    assert not (tmp_path / "run" / "checkpoint").exists()


@pytest.mark.slow
def test_a_run_whose_last_update_diverges_has_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Its losses were all numbers: they are those before each update."""
    arguments = f"{TINY} --schedule.learning-rate 1e30 --schedule.warmup-epochs 0 --steps 1"
    with jax.enable_x64(False), pytest.raises(SystemExit) as stop:
        main(["digits", "--workdir", str(tmp_path / "run"), *arguments.split()])
    assert stop.value.code == 1
    assert "the held-out loss is nan after step 1, with learning rate 1e+30" in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoint").exists()
    assert not (tmp_path / "run" / "best").exists()


Harm = Callable[[str, Callable[[Path], object]], tuple[int, str, str]]


@pytest.fixture
def harmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Harm:
    """Options, and what is done to the folder of the run of these after its row of step 4 -> its exit code, and what it
    wrote to stdout and to stderr."""
    write = Journal.write

    def call(options: str, harm: Callable[[Path], object]) -> tuple[int, str, str]:
        def written(journal: Journal, row: dict[str, Any]) -> None:
            write(journal, row)
            if row["step"] == 4 and "loss" in row:
                harm(tmp_path / "run")

        monkeypatch.setattr(Journal, "write", written)
        code = 0
        try:
            with jax.enable_x64(False):
                main(["digits", "--workdir", str(tmp_path / "run"), *TINY.split(), *options.split()])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, error = capsys.readouterr()
        return code, out, error

    return call


@pytest.mark.slow
def test_a_run_whose_rows_are_gone_at_its_end_leaves_all_but_their_picture(tmp_path: Path, harmed: Harm):
    code, out, error = harmed("", lambda run: (run / "metrics.jsonl").unlink())
    run = tmp_path / "run"
    assert (code, error) == (0, "")
    lines = [line for line in out.splitlines() if "curves.png" in line]
    missing = f"{run / 'metrics.jsonl'} can't be read: No such file or directory"
    assert lines == [f"{run / 'curves.png'} is left out: {missing}"]
    left = {"config.json", "confusion.png", "classes.json", "checkpoint", "best", "last"}
    assert {path.name for path in run.iterdir()} == left


DAMAGED = {
    '{"step": 3': "line 2, is no row of a run: '{\"step\": 3'",
    '{"step": 3}': "line 2, is no row of a run: '{\"step\": 3}'",
    "[]": "line 2, is no row of a run: '[]'",
    '{"epoch": 1, "loss": 2.0}': 'line 2, is no row of a run: \'{"epoch": 1, "loss": 2.0}\'',
}


@pytest.mark.parametrize("line", list(DAMAGED))
def test_of_damaged_rows_no_picture_is_drawn_and_the_line_is_named(tmp_path: Path, line: str):
    rows = tmp_path / "metrics.jsonl"
    good = '{"step": 2, "epoch": 0.1, "loss": null, "accuracy": 0.1, "learning_rate": 0.1}\n'
    rows.write_text(good + line + "\n")
    assert leave_curves(tmp_path, "", "softmax") == f"{tmp_path / 'curves.png'} is left out: {rows}, {DAMAGED[line]}"
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    rows.write_text("")
    assert leave_curves(tmp_path, "", "softmax") == f"{tmp_path / 'curves.png'} is left out: {rows} has no rows"
    rows.write_text(good)
    assert leave_curves(tmp_path, "", "softmax") is None
    assert (tmp_path / "curves.png").is_file()


def move(run: Path) -> None:
    """Not while a step is written."""
    while any((run / "steps").glob("*.orbax-checkpoint-tmp")):
        time.sleep(0.01)
    run.rename(run.with_name("moved"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "harm"),
    [
        ("", move),
        ("--eval-epochs 9 --checkpoint.steps 3", move),
        ("--eval-epochs 9", shutil.rmtree),
    ],
    ids=["moved before the best weights", "moved before a step", "removed"],
)
def test_a_run_whose_folder_is_moved_or_removed_ends_at_its_next_saving(
    tmp_path: Path, harmed: Harm, options: str, harm: Callable[[Path], object]
):
    """And makes no folder of that name, with half a run in it. The moved one is gone on with."""
    code, _, error = harmed(options, harm)
    run, moved = tmp_path / "run", tmp_path / "moved"
    assert code == 1
    assert error == (
        f"vit-train: error: --workdir {run} has no config.json any more: the folder was moved or removed during the "
        "run; what was saved until then is where it is now\n"
    )
    assert not run.exists()
    if moved.exists():
        moved.rename(run)
        assert (harmed(options, lambda run: None)[0], (run / "checkpoint").is_dir()) == (0, True)


def test_a_run_is_not_replaced_unasked(run: tuple[Path, str], fails: Fails):
    before = {path: path.stat().st_mtime_ns for path in run[0].rglob("*")}
    held = "config.json, metrics.jsonl, curves.png, confusion.png, classes.json, checkpoint, best, last"
    assert f"already holds a run ({held})" in fails(f"digits --workdir {run[0]}")
    assert before == {path: path.stat().st_mtime_ns for path in run[0].rglob("*")}


def test_overwrite_removes_a_run_and_nothing_else(tmp_path: Path, fails: Fails):
    (tmp_path / "checkpoint").mkdir()
    message = fails(f"digits --workdir {tmp_path} --overwrite")
    assert "no config.json that a run wrote" in message
    assert (tmp_path / "checkpoint").is_dir()


def test_overwrite_removes_no_checkpoint_that_the_run_starts_from(run: tuple[Path, str], fails: Fails):
    before = sorted(run[0].rglob("*"))
    for init in (run[0], run[0] / "best"):
        said = fails(f"digits --workdir {run[0]} --overwrite --init {init}")
        assert f"--init {init} lies in --workdir {run[0]}, whose run --overwrite removes: give another" in said
    assert sorted(run[0].rglob("*")) == before


def test_colours_of_four_channels_are_refused_before_anything_is_made(tmp_path: Path, fails: Fails):
    for split in ("train", "test"):
        write_folder(tmp_path / "photos" / split, jpegs(2))
    given = f"--data.name folder:{tmp_path / 'photos'} --model.in-channels 4 --model.num-classes 2 --batch-size 2"
    said = fails(f"cifar10 --workdir {tmp_path / 'run'} {given}")
    assert "RandAugment, 3-Augment and colour jitter are for 1 or 3 channels, got 4" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("digitz --workdir x", "; did you mean 'digits'?"),
        ("digits", "--workdir"),
        ("digits --workdir x --modle.dim 8", "--modle.dim"),
        ("digits --workdir x --steps many", "many"),
        ("digits --workdir x --data.mean 0.5 0.5 --data.std 1", "data.mean has 2 numbers and data.std 1: give"),
        ("digits --workdir x --data.mean 0.5 0.5 --data.std 1 1", "for each of the model's 1 channels, got (0.5, 0.5)"),
        ("digits --workdir x --model.dim 50", "dim 50 is not divisible by num_heads"),
        ("digits --workdir x --steps 0 --batch-size 0", "batch_size must be at least 1, got 0; steps must be positive"),
        ("digits --workdir x --schedule.final-fraction 2", "schedule.final_fraction must be in [0, 1], got 2"),
        ("digits --workdir x --seed 4294967296", "seed must be in [0, 2^32), got 4294967296"),
        ("digits --workdir x --eval-epochs inf", "eval_epochs must be positive and finite, got inf"),
        ("digits --workdir x --epochs inf", "epochs must be positive and finite, got inf"),
        (
            "digits --workdir x --schedule.warmup-epochs inf",
            "schedule.warmup_epochs must be at least 0 and finite, got inf",
        ),
        ("digits --workdir x --drop-path 1", "drop_path must be in [0, 1), got 1"),
        ("digits --workdir x --model.num-classes 9", "num_classes is 9, but the labels of digits go from 0 to 9"),
        ("digits --workdir x --data.test-split val", "none that is called 'val'"),
        ("digits --workdir x --batch-size 2000", "batch_size 2000 is more than the 1437 training images"),
    ],
)
def test_a_wrong_argument_is_one_message(
    arguments: str, expected: str, fails: Fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    message = fails(arguments)
    assert expected in message
    assert "Traceback" not in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        "--workdir gs://bucket/run",
        "--workdir run --data.dir s3://bucket/tfds",
        "--workdir run --data.name folder:gs://bucket/photos",
        "--workdir run --init https://host/model.safetensors",
    ],
)
def test_an_address_is_no_path_and_no_folder_is_made_of_it(
    arguments: str, fails: Fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """gs://bucket/run would be the folder ./gs:/bucket/run."""
    monkeypatch.chdir(tmp_path)
    message = fails(f"digits {arguments}")
    assert "expected a path on this machine, got an address" in message
    assert "mount it and give the mounted path" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["digits", "--workdir", ""], "--workdir is empty: expected a folder"),
        (["digits", "--workdir="], "--workdir is empty: expected a folder"),
        (["finetune", "--init", "", "--workdir", "run"], "--init is empty: expected a checkpoint"),
        (["cifar10", "--workdir", "run", "--data.dir="], "--data.dir is empty: expected a folder"),
        (
            ["cifar10", "--workdir", "run", "--data.name", ""],
            "--data.name is empty: expected the name of a dataset, or",
        ),
        (["evaluate", "run", "--data", "cifar10", "--data-dir", ""], "--data-dir is empty: expected a folder"),
        (["prepare", "cifar10", "--data-dir", ""], "--data-dir is empty: expected a folder"),
    ],
)
def test_an_empty_name_is_refused_and_is_not_the_current_folder(
    words: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """As a shell gives it whose variable is not set."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(words)
    message = capsys.readouterr().err
    assert (stop.value.code, message.count("\n")) == (2, 1)
    assert message.startswith(f"vit-train: error: {expected}")
    assert message.endswith("; an unset variable of the shell?\n")
    assert not list(tmp_path.iterdir())


def test_a_name_with_a_colon_is_no_address():
    for name in ("hf-hub:owner/name", "cifar10:3.0.2", "runs/a:b", "C:/runs", None):
        check_local("--init", name)


def test_a_file_as_workdir_is_refused(tmp_path: Path, fails: Fails):
    (tmp_path / "file").touch()
    assert "is a file" in fails(f"digits --workdir {tmp_path / 'file'}")


@pytest.mark.parametrize("word", RESERVED)
def test_command_words_are_no_recipes(word: str, fails: Fails):
    assert RESERVED == ("prepare", "evaluate")
    assert word not in RECIPES
    expected = {"prepare": "Missing argument", "evaluate": "the following arguments are required: --data"}
    assert expected[word] in fails(f"{word} --workdir x")


def test_help_shows_every_setting_of_a_recipe(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["digits", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out

    def options(config: object, prefix: str) -> list[str]:
        found = [(getattr(config, f.name), prefix + f.name.replace("_", "-")) for f in fields(config)]  # type: ignore[arg-type]
        return [name for value, at in found for name in (options(value, at + ".") if is_dataclass(value) else [at])]

    for option in options(RECIPES["digits"](), "--"):
        assert f"{option}" in shown


def test_help_waits_for_no_framework():
    code = "import sys; from train.__main__ import main\ntry: main(['digits', '--help'])\nexcept SystemExit: pass\n"
    code += "heavy = {'jax', 'flax', 'optax', 'orbax', 'grain', 'torch', 'cv2', 'matplotlib', 'sklearn'}\n"
    code += "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--schedule.learning-rate" in done.stdout
