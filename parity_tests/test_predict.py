"""vit-predict says what the model says, in either framework, of whatever images it is given."""

import csv
import errno
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity_tests.compare import gap
from parity_tests.datasets import picture
from parity_tests.predicting import CONFIG, LABELS, PREPROCESS, by_hand, make_folder, said
from parity_tests.tolerances import FLOAT32, FLOAT32_CHAIN
from vit_tools.features import run
from vit_tools.images import Opened, batches
from vit_tools.model import Array, Found, Model
from vit_tools.predict import command
from vit_tools.predict.answers import Answer, answer, as_csv, as_json, as_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("predict"))


@pytest.mark.parametrize("framework", ["torch", "flax"])
def test_the_labels_and_probabilities_are_the_models(folder: Path, capsys, framework: str):
    where = folder / "checkpoint"
    code, out, err = said(
        capsys,
        folder / "photos",
        "--checkpoint",
        where,
        "--framework",
        framework,
        "--json",
        "--top",
        7,
        "--batch-size",
        2,
    )
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    names = [Path(row["image"]).name for row in rows]
    assert names == ["a.jpg", "b.PNG", "c.webp", "d.jpeg", "e.png"]
    for row in rows:
        expected = by_hand(row["image"], where)
        found = {entry["label"]: entry["probability"] for entry in row["classes"]}
        assert gap([found[label] for label in LABELS], expected) < FLOAT32_CHAIN
        best = [entry["probability"] for entry in row["classes"]]
        assert best == sorted(best, reverse=True)


def test_the_table_and_csv_say_the_same_as_json():
    one = answer("a, b.jpg", np.log(np.array([0.1, 0.6, 0.3])), ("cat", 'a "dog"', "bird"), 2)
    assert one.labels == ('a "dog"', "bird")
    assert one.probabilities == pytest.approx((0.6, 0.3), rel=FLOAT32)
    assert as_table(one) == 'a, b.jpg\n   60.00%  a "dog"\n   30.00%  bird'
    rows = list(csv.reader(io.StringIO(as_csv(one))))
    assert [row[:3] for row in rows] == [["a, b.jpg", "1", 'a "dog"'], ["a, b.jpg", "2", "bird"]]
    assert [float(row[3]) for row in rows] == list(one.probabilities)
    classes = json.loads(as_json(one))["classes"]
    assert [entry["probability"] for entry in classes] == list(one.probabilities)


def test_equal_classes_come_in_their_order_and_no_more_than_there_are():
    assert answer("x", np.zeros(3), "abc", 9) == Answer("x", ("a", "b", "c"), (1 / 3,) * 3)


def test_json_is_utf8_whatever_an_image_is_called():
    for name in ("café.jpg", "caf\udce9.jpg"):
        text = as_json(Answer(name, ("été",), (1.0,)))
        assert json.loads(text.encode()) == {"image": name, "classes": [{"label": "été", "probability": 1.0}]}
    assert '"café.jpg"' in as_json(Answer("café.jpg", (), ()))


@pytest.mark.parametrize(
    ("gone", "options", "message"),
    [
        ("torch", [], "torch is not installed: pip install torch, or vit-parity[torch] (or choose the other"),
        ("jax", ["--framework", "flax"], "jax is not installed: pip install jax, or vit-parity[flax]"),
        ("matplotlib", ["--attention", "x.png"], "matplotlib is not installed: pip install matplotlib, or vit-parity"),
    ],
)
def test_what_is_not_installed_is_said_before_any_work(
    tmp_path: Path, monkeypatch, capsys, gone: str, options: list[str], message: str
):
    monkeypatch.chdir(tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == gone else find(name))
    code, out, err = said(capsys, "photo.jpg", "--checkpoint", "gone", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_full_disk_is_one_message(folder: Path, tmp_path: Path, monkeypatch, capsys):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    asked = ["--checkpoint", folder / "checkpoint", "--features", tmp_path / "f.npz"]
    code, _, err = said(capsys, folder / "photos" / "a.jpg", *asked)
    message = f"{tmp_path / 'f.npz'} can't be written: No space left on device"
    assert (code, err) == (2, f"vit-predict: error: {message}\n")
    assert not list(tmp_path.iterdir())


NO_ROOM = "vit-predict: error: stdout can't be written: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a disk that is full")
@pytest.mark.parametrize(("stdout", "code", "message"), [("closed", 128 + signal.SIGPIPE, ""), ("full", 2, NO_ROOM)])
@pytest.mark.parametrize("more", [[], ["--csv"], ["--json", "--nearest", "photos"]], ids=" ".join)
def test_a_reader_that_left_is_no_unreadable_image_and_a_full_disk_names_stdout(
    folder: Path, stdout: str, code: int, message: str, more: list[str]
):
    """As of `| head -1`, whose code is that of vit-export, and `> FILE`."""
    command = [sys.executable, "-m", "vit_tools.predict.command", "photos", "--checkpoint", "checkpoint", *more]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    reading, writing = os.pipe()
    os.close(reading)
    with open("/dev/full", "wb") as full:
        to = writing if stdout == "closed" else full
        done = subprocess.run(command, cwd=folder, env=env, stdout=to, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (code, message)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_command_that_is_ended_half_way_leaves_nothing_half_written(
    folder: Path, tmp_path: Path, monkeypatch, capsys, number: signal.Signals
):
    """By Ctrl-C, or `kill` or `timeout`: no traceback either."""

    def ended(*_: object, **__: object) -> None:
        assert list(tmp_path.glob(".f.npz.*"))
        os.kill(os.getpid(), number)
        time.sleep(60)  # the signal ends it

    monkeypatch.setattr(np.lib.format, "write_array", ended)
    asked = ["--checkpoint", folder / "checkpoint", "--features", tmp_path / "f.npz"]
    code, out, err = said(capsys, folder / "photos" / "a.jpg", *asked)
    assert (code, err) == (128 + number, f"vit-predict: ended by {number.name}; nothing half-written was left behind\n")
    assert out.startswith(str(folder / "photos" / "a.jpg"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("framework", "lengths"), [("torch", [4, 4, 1]), ("flax", [4, 4, 4]), ("one", [1])])
def test_only_flax_fills_up_a_batch_and_never_beyond_the_first(folder: Path, framework: Any, lengths: list[int]):
    """A model that says the mean of each image, and how many it was given."""
    given: list[int] = []

    def call(images: Array, names: tuple[str, ...]) -> tuple[Array, Found]:
        given.append(len(images))
        return images.mean((1, 2, 3))[:, None], {}

    count, kind = (1, "flax") if framework == "one" else (9, framework)
    model = Model(CONFIG, PREPROCESS, LABELS, kind, "x", "labels", call)
    images = [Opened(str(i), picture(i), PREPROCESS(picture(i))) for i in range(count)]
    found = list(run(model, batches(images, 4, lambda bad: pytest.fail(bad.path))))
    assert given == lengths
    assert [image for batch in found for image in batch.images] == images
    outputs = np.concatenate([batch.output[:, 0] for batch in found])
    assert np.array_equal(outputs, [image.input.mean() for image in images])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--checkpoint gone photo.jpg", "photo.jpg: no such file or folder"),
        ("--checkpoint gone .", "no image is in this folder"),
        ("--checkpoint gone", "no image is named"),
        ("--checkpoint gone --anatomy a.png --features f.npz", "--features needs images"),
        ("--checkpoint gone x --top 0", "--top must be at least 1, got 0"),
        ("--checkpoint gone x --attention no/such/heat.png", "there is no folder"),
        ("--checkpoint gone x --features .", "--features . is a folder: expected the name of an NPZ file"),
        ("--checkpoint gone x --nearest . --csv", "--csv has no columns for --nearest and --knn: ask for --json"),
        ("--checkpoint gone x --nearest-png near.png", "--nearest-png needs --nearest FOLDER"),
    ],
)
def test_mistakes_are_one_message(tmp_path: Path, monkeypatch, capsys, arguments: str, message: str):
    monkeypatch.chdir(tmp_path)
    code, out, err = said(capsys, *arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith("vit-predict: error: ")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("second", ["f.npz", "deep/../f.npz", "link.npz"])
def test_two_outputs_of_one_file_are_refused_by_name(tmp_path: Path, monkeypatch, capsys, second: str):
    """The second would be written over the first."""
    monkeypatch.chdir(tmp_path)
    Path("deep").mkdir()
    Path("link.npz").symlink_to("f.npz")
    code, out, err = said(capsys, "x", "--checkpoint", "gone", "--features", second, "--attention-npz", "f.npz")
    message = f"--attention-npz and --features are one file, {second}: give each its own name"
    assert (code, out, err) == (2, "", f"vit-predict: error: {message}\n")


def test_an_empty_name_is_refused_and_not_the_current_folder(folder: Path, monkeypatch, capsys):
    monkeypatch.chdir(folder / "photos")
    code, out, err = said(capsys, "a.jpg", "", "--checkpoint", folder / "checkpoint")
    message = "an image's name is empty: expected files, folders, patterns, or - for a list on stdin"
    assert (code, out, err) == (2, "", f"vit-predict: error: {message}\n")


def test_a_checkpoint_that_is_none_and_a_layer_that_is_none_are_said(folder: Path, capsys):
    image = folder / "photos" / "a.jpg"
    code, _, err = said(capsys, image, "--checkpoint", folder / "gone")
    assert code == 2
    assert "gone: no such file or directory" in err
    layer = ["--features", folder / "f.npz", "--layer", 2]
    code, _, err = said(capsys, image, "--checkpoint", folder / "checkpoint", *layer)
    assert code == 2
    assert "--layer must be from 0 to 1" in err


def test_help_waits_for_nothing_heavy_and_one_framework_is_loaded_alone(folder: Path):
    code = "import sys; from vit_tools.predict.command import main\n"
    code += "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
    code += "print(sorted({'jax', 'torch', 'matplotlib', 'numpy'} & set(sys.modules)), file=sys.stderr)"

    def loaded(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
        )
        return done.stderr.splitlines()[-1]

    assert loaded("--help") == "[]"
    image = [folder / "photos" / "a.jpg", "--checkpoint", folder / "checkpoint", "--framework"]
    assert loaded(*image, "torch") == "['numpy', 'torch']"
    assert loaded(*image, "flax") == "['jax', 'numpy']"
