"""vit-train prepare: makes a TFDS dataset ready as ArrayRecord, or says in one message what is missing."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from parity_tests.datasets import jpegs, write_tfds
from train.__main__ import main

ROOT = Path(__file__).parent.parent
WITHOUT = "import sys; sys.modules['tensorflow'] = None; from train.__main__ import main; main(sys.argv[1:])"
Fails = Callable[[list[str]], str]


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Arguments -> what the command writes to stderr on its way out with code 2."""

    def call(arguments: list[str]) -> str:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        return capsys.readouterr().err

    return call


@pytest.fixture
def as_if_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What TFDS does without TensorFlow is enough for these tests."""
    monkeypatch.setattr("train.prepare.find_spec", lambda name: name)


def test_without_tensorflow_it_says_what_to_install(tmp_path: Path):
    command = [sys.executable, "-c", WITHOUT, "prepare", "fashion_mnist", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "prepare needs TensorFlow, which is not installed; training itself does not" in done.stderr
    assert "pip install 'vit-parity[prepare]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("as_if_installed")
def test_a_dataset_that_is_ready_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_tfds(tmp_path, {"train": jpegs(9), "test": jpegs(3)})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    main(["prepare", "written", "--data-dir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert f"{tmp_path}/written/1.0.0  written/1.0.0: train 9, test 3 examples" in printed
    assert f"--data.name written --data.dir {tmp_path}" in printed
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


@pytest.mark.usefixtures("as_if_installed")
def test_an_unknown_dataset_is_one_line(fails: Fails, tmp_path: Path):
    message = fails(["prepare", "nonsense", "--data-dir", str(tmp_path)])
    assert message.strip() == (
        "vit-train: error: nonsense can't be prepared: DatasetNotFoundError: Dataset nonsense not found."
    )


@pytest.mark.usefixtures("as_if_installed")
def test_a_dataset_in_another_format_is_not_touched(fails: Fails, tmp_path: Path):
    write_tfds(tmp_path, {"train": jpegs(9), "test": jpegs(3)}, file_format="tfrecord")
    message = fails(["prepare", "written", "--data-dir", str(tmp_path)])
    assert "give another --data-dir, and it is made there anew" in message


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="needs the extra prepare")
@pytest.mark.slow
def test_what_is_prepared_is_read(tmp_path: Path):
    """A dataset that is written on the fly, by TensorFlow in a process of its own."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "__init__.py").touch()
    (tmp_path / "made" / "made.py").write_text(BUILDER)
    code = "import sys, made.made; from train.__main__ import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "prepare", "made", "--data-dir", str(tmp_path / "data")]
    env = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    subprocess.run(command, env=env, check=True)
    from train.config import DataConfig
    from train.input.sources import open_source

    source = open_source(DataConfig(name="made", dir=tmp_path / "data"), "train")
    assert source.class_names == ("cat", "dog")
    assert sorted(example.label for example in source.examples(range(6))) == [0, 0, 0, 1, 1, 1]


BUILDER = """
import numpy as np
import tensorflow_datasets as tfds

class Made(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        label = tfds.features.ClassLabel(names=["cat", "dog"])
        features = {"image": tfds.features.Image(shape=(8, 8, 3)), "label": label}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples(6), "test": self._generate_examples(2)}

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"image": np.full((8, 8, 3), i, np.uint8), "label": i % 2}
"""
