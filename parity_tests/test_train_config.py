"""A run's config.json is the run: read back it is the same config, and trained again it gives the same bits."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import tyro

from parity_tests.test_train_cli import TINY
from train.__main__ import main, parse
from train.config import ConfigError, TrainConfig
from train.config.paths import absolute
from train.config.read import from_dict, read_config
from train.recipes import FROM_A_CHECKPOINT, RECIPES
from vit_torch.training.loop.errors import Refused
from vit_torch.training.loop.settings import read_options


@pytest.mark.parametrize("recipe", [name for name, recipe in RECIPES.items() if recipe not in FROM_A_CHECKPOINT])
def test_every_recipe_comes_back_from_json(recipe: str):
    config = RECIPES[recipe]()
    assert from_dict(TrainConfig, json.loads(json.dumps(config.to_dict())), "here") == config


def test_paths_and_tuples_come_back_as_they_were():
    arguments = [
        "--data.dir",
        "/data",
        "--optimizer.frozen",
        "*",
        "!head.*",
        "--data.mean",
        "0.5",
        "--data.std",
        "0.25",
    ]
    config = tyro.cli(TrainConfig, args=arguments, default=RECIPES["digits"]())
    assert config.data.dir == Path("/data")
    assert config.optimizer.frozen == ("*", "!head.*")
    assert from_dict(TrainConfig, json.loads(json.dumps(config.to_dict())), "here") == config


@pytest.mark.parametrize(
    "words",
    [
        "--init a.pth --init-set act=gelu --init-set pool=mean",
        "--optimizer.frozen blocks.0.* --optimizer.frozen head.*",
        "--data.mean 0.5 --data.mean=0.4 --data.std 0.2",
    ],
)
def test_a_list_that_is_given_twice_is_refused_in_both_loops(words: str):
    """The last would replace the first, unsaid."""
    with pytest.raises(ConfigError, match=r"^--[a-z.-]+ is given 2 times: its values go behind one"):
        parse(["digits", "--workdir", "runs/a", *words.split()])
    with pytest.raises(Refused, match=r"^--[a-z.-]+ is given more than once: its values go behind one"):
        read_options(words.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "can't be read as the config.json of a run"),
        ("{}", "is no config.json that vit-train wrote"),
        ('{"format": "vit-parity-run", "version": 9}', "is of version 9, and this one reads version 1"),
        ('{"format": "vit-parity-run", "version": "1"}', 'is of version "1", and this one reads version 1'),
        (
            '{"format": "vit-parity-run", "version": 1, "train_config": {"modle": 1, "sede": 2}}',
            "modle, sede: this version has no such settings in TrainConfig",
        ),
        ('{"format": "vit-parity-run", "version": 1, "train_config": {"seed": 1}}', "model"),
        ('{"format": "vit-parity-run", "version": 1, "train_config": null}', "has null where its settings belong"),
        ('{"format": "vit-parity-run", "version": 1, "train_config": []}', "has [] where its settings belong"),
    ],
)
def test_what_is_no_runs_config_is_said(tmp_path: Path, text: str, message: str):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_config(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("augment.flip", "false", 'augment: flip is "false", expected true or false'),
        ("augment.flip", 1, "augment: flip is 1, expected true or false"),
        ("batch_size", 64.5, "batch_size is 64.5, expected a whole number"),
        ("batch_size", True, "batch_size is true, expected a whole number"),
        ("epochs", "20", 'epochs is "20", expected a number'),
        ("ema_decay", False, "ema_decay is false, expected a number or null"),
        ("loss", "hinge", 'loss is "hinge", expected "softmax" or "sigmoid"'),
        ("data.mean", 0.5, "data: mean is 0.5, expected a list, each a number or null"),
        ("optimizer.frozen", [1], "optimizer: frozen is [1], expected a list, each text"),
        ("data.dir", 3, "data: dir is 3, expected a path or null"),
        ("schedule", 3, "schedule is 3, expected an object"),
        ("schedule", None, "schedule is null, expected an object"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(setting: str, value: Any, message: str):
    """ "false" is true in Python."""
    values = RECIPES["digits"]().to_dict()
    *path, name = setting.split(".")
    reduce(dict.__getitem__, path, values)[name] = value
    with pytest.raises(ConfigError, match=re.escape(message)):
        from_dict(TrainConfig, values, "here")


def test_all_values_of_another_type_are_named_at_once():
    values = RECIPES["digits"]().to_dict() | {"seed": "1", "scan": 0}
    with pytest.raises(ConfigError, match=r'^here: seed is "1", .*; scan is 0, expected true or false$'):
        from_dict(TrainConfig, values, "here")


HUGE = "9" * 30


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--data.mean nan --data.std 1", "data.mean must be finite, got nan"),
        ("--data.mean 1e39 --data.std 1", "data.mean must be finite, got 1e+39"),
        ("--start.head-bias nan", "start.head_bias must be finite, got nan"),
        (f"--steps {HUGE}", f"steps must be less than 2,147,483,648, got {HUGE}"),
        ("--steps 2147483648", "steps must be less than 2,147,483,648, got 2147483648"),
        (f"--data.repeats {HUGE}", f"data.repeats must be less than 2,147,483,648, got {HUGE}"),
        ("--model.image-size 800000", "model.image_size must be less than 16,384, got 800000"),
        ("--init x --init-size 800000", "init_size must be less than 16,384, got 800000"),
        (f"--schedule.learning-rate {'9' * 400}", "schedule.learning_rate must be positive and finite, got inf"),
        ("--data.eval-crop 0.0001", "data.eval_crop must be in [0.1, 1], got 0.0001"),
    ],
)
def test_a_number_that_no_run_can_have_is_refused_before_anything_is_changed(words: str, message: str):
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse(["digits", "--workdir", "runs/a", *words.split()])


def test_a_whole_number_beyond_float_in_a_config_is_refused():
    values = RECIPES["digits"]().to_dict()
    values["schedule"]["learning_rate"] = 10**400
    with pytest.raises(ConfigError, match=re.escape(f"positive and finite, got 1{'0' * 29}... (401 digits)")):
        from_dict(TrainConfig, values, "here")


@pytest.mark.parametrize("epochs", [1e9, 1e30])
def test_more_epochs_than_steps_are_counted_are_refused(epochs: float):
    config = replace(RECIPES["digits"](), epochs=epochs)
    with pytest.raises(ConfigError, match=r"steps, of 1e\+\d+ epochs, must be less than 2,147,483,648"):
        config.total_steps(1437)


@pytest.mark.slow
def test_a_run_from_another_runs_config_has_the_same_bits(tmp_path: Path):
    def run(*arguments: str) -> None:
        done = subprocess.run([sys.executable, "-m", "train", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    run("digits", "--workdir", str(tmp_path / "a"), *TINY.split(), "--seed", "5")
    run(str(tmp_path / "a" / "config.json"), "--workdir", str(tmp_path / "b"))
    weights = [(tmp_path / name / "checkpoint" / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in "ab"]
    assert configs[0].pop("run_id") != configs[1].pop("run_id")
    assert configs[0] == configs[1]


def test_a_run_keeps_its_paths_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """So that its config.json finds its data and its start from any folder."""
    given: list[TrainConfig] = []

    def keep(config: TrainConfig, workdir: Path, **_: object):
        given.append(config)
        raise ConfigError("enough")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("train.run.run", keep)
    names = "--data.name folder:photos --data.dir tfds --init start", "--data.name mnist --init hf-hub:timm/vit"
    for arguments in names:
        with pytest.raises(SystemExit):
            main(["finetune", "--workdir", "run", *arguments.split()])
    ours, named = given
    assert ours.data.name == f"folder:{tmp_path / 'photos'}"
    assert ours.data.dir == tmp_path / "tfds"
    assert ours.init == str(tmp_path / "start")
    assert absolute(replace(ours, init="start/../start", data=replace(ours.data, name="folder:./photos"))) == ours
    assert absolute(replace(ours, data=replace(ours.data, dir=Path("~/tfds")))).data.dir == Path.home() / "tfds"
    assert (named.data.name, named.data.dir, named.init) == ("mnist", None, "hf-hub:timm/vit")


def test_the_version_is_told():
    done = subprocess.run([sys.executable, "-m", "train", "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"vit-train \d+\.\d+\.\S+\n", done.stdout)
