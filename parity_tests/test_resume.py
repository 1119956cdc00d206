"""A run that was stopped goes on, to the bits of one that was not; its steps are checkpoints while it goes on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import torch

import vit_flax
import vit_torch
from parity_tests.compare import apart, gaps
from parity_tests.runs import (
    SETTINGS,
    environment,
    finish,
    past,
    rows,
    saving,
    setting_up,
    start,
    steps_in,
    stop_at,
    wait_for,
    weights,
)
from parity_tests.tolerances import FLOAT32, FLOAT32_CHAIN
from train import workdir as folder
from train.__main__ import main, parse
from train.config import ConfigError
from train.config.paths import absolute
from train.config.read import read_config
from train.input.data import open_data
from train.replaced import drop
from train.saving.due import Due
from vit_convert.checkpoint import open_checkpoint
from vit_convert.errors import CheckpointError

LONGER, LAST_SAVED = ("--steps", "160"), 156  # a step every 4, but for the last, after which the weights are written


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A run that nothing stopped."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    finish(start(workdir, cache=cache))
    return workdir


def assert_same_run(workdir: Path, whole: Path) -> None:
    assert weights(workdir) == weights(whole)
    assert rows(workdir) == rows(whole)
    assert {path.name for path in workdir.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.mark.slow
def test_a_run_stopped_several_times_ends_with_the_bits_of_one_that_was_not(whole: Path, cache: Path, tmp_path: Path):
    """Killed while it compiles or begins, and while it saves; told to end between two steps; its last step damaged."""
    stop_at(start(tmp_path, cache=cache), tmp_path, setting_up, signal.SIGKILL, within=1)
    stop_at(start(tmp_path, cache=cache), tmp_path, saving, signal.SIGKILL)
    first = max(steps_in(tmp_path), default=0)
    process = start(tmp_path, "--checkpoint.steps", "5", "--checkpoint.keep", "3", cache=cache)
    said = stop_at(process, tmp_path, past(first + 7), signal.SIGTERM)
    *_, before, last = steps_in(tmp_path)
    at = tmp_path / "steps" / str(last)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.endswith(f"SIGTERM: the last good step is saved in {at}; the same command goes on from it\n")
    data = max(at.rglob("*"), key=lambda path: path.stat().st_size)
    data.write_bytes(data.read_bytes()[:-1])
    printed = finish(start(tmp_path, cache=cache))
    assert f"{at} is damaged ({data.relative_to(at)} is not as it was written): set aside as " in printed
    assert f"going on from {tmp_path / 'steps' / str(before)}\n" in printed
    assert_same_run(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "devices"), [(0.0, 1), (0.7, 1), (0.0, 4)])
def test_a_run_killed_at_each_random_moment_ends_with_the_same_bits(
    tmp_path: Path, seconds: float, devices: int, monkeypatch: pytest.MonkeyPatch
):
    """Compiled anew by each process. On several devices under FSDP: each saves its parts."""
    settings = LONGER if devices == 1 else (*LONGER, "--devices.fsdp", "--model.dim", "64")
    monkeypatch.setenv("XLA_FLAGS", f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}")
    monkeypatch.setenv("NPROC", "16")  # threads of XLA: with one a core simulated devices may wait for ever
    finish(start(tmp_path / "whole", *settings))
    killed = 0
    for _ in range(5):
        step = max(steps_in(tmp_path / "run"), default=0)
        if step >= LAST_SAVED:
            break
        process = start(tmp_path / "run", *settings)
        stop_at(process, tmp_path / "run", past(step), signal.SIGKILL, within=seconds)
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 3
    if not (tmp_path / "run" / "checkpoint").exists():
        finish(start(tmp_path / "run", *settings))
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_a_run_told_to_end_while_it_is_evaluated_goes_on_to_the_same_bits(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """It waits for no whole split: after the next batch it saves, and what goes on makes the evaluation first."""
    asked: list[int] = []

    def told(due: Due, count: int) -> bool:
        asked.append(count)
        due.ending = signal.SIGTERM
        return count == 2

    monkeypatch.setattr(Due, "told", told)
    with jax.enable_x64(False), pytest.raises(SystemExit) as stop:
        main(["digits", "--workdir", str(tmp_path / "run"), *SETTINGS])
    assert stop.value.code == 128 + signal.SIGTERM
    assert asked == [1, 2]
    assert "SIGTERM: the last good step is saved in" in capsys.readouterr().err
    assert not [row for row in rows(tmp_path / "run") if "test_loss" in row]
    monkeypatch.undo()
    with jax.enable_x64(False):
        main(["digits", "--workdir", str(tmp_path / "run"), *SETTINGS])
    assert_same_run(tmp_path / "run", whole)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A run that goes on, and sleeps while tests look at it; its steps are kept."""
    workdir = tmp_path_factory.mktemp("running") / "run"
    process = start(workdir, "--checkpoint.keep", "1000", cache=cache)
    try:
        wait_for(process, workdir, past(8))
        process.send_signal(signal.SIGSTOP)
        yield process, workdir
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_saved_step_converts_while_the_run_goes_on(running: tuple[subprocess.Popen[str], Path], tmp_path: Path):
    process, workdir = running
    step, latest = workdir / "steps" / "8", steps_in(workdir)[-1]
    command = [sys.executable, "-m", "vit_convert", str(step), str(tmp_path / "native"), "--to", "native"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    process.send_signal(signal.SIGCONT)
    wait_for(process, workdir, past(latest))
    process.send_signal(signal.SIGSTOP)
    assert "holds params and ema: ema is taken; --weights params takes the other" in done.stdout + done.stderr
    state: Any = ocp.StandardCheckpointer().restore(step / "state")
    data = open_data(parse(["digits", "--workdir", "x"]).config)
    for source, asked, name in ((step, None, "ema"), (step, "params", "params"), (tmp_path / "native", None, "ema")):
        found = open_checkpoint(source, weights=asked)
        assert found.preprocess == data.preprocess
        assert found.labels == data.class_names
        values = dict(found.tensors("flax"))
        assert values.keys() == state[name].keys()
        assert all((values[path] == np.asarray(x)).all() for path, x in state[name].items())
    assert any((np.asarray(x) != np.asarray(state["params"][path])).any() for path, x in state["ema"].items())


@pytest.mark.slow
def test_the_folder_of_a_run_that_goes_on_names_its_last_step(running: tuple[subprocess.Popen[str], Path]):
    workdir = running[1]
    last = workdir / "steps" / str(steps_in(workdir)[-1])
    for source in (workdir, workdir / "steps"):
        with pytest.raises(CheckpointError, match=f"; did you mean {last}, its last step\\?$"):
            open_checkpoint(source)


@pytest.mark.slow
def test_a_saved_step_loads_in_both_frameworks(running: tuple[subprocess.Popen[str], Path]):
    step = running[1] / "steps" / "4"
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    ours = np.asarray(vit_flax.ViT.from_pretrained(step)(jnp.asarray(images)))
    with torch.no_grad():
        theirs = vit_torch.ViT.from_pretrained(step)(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    assert apart(ours, theirs) < FLOAT32_CHAIN


@pytest.mark.slow
def test_a_folder_in_which_a_run_goes_on_is_refused(
    running: tuple[subprocess.Popen[str], Path], capsys: pytest.CaptureFixture[str]
):
    before = set(running[1].iterdir())
    with pytest.raises(SystemExit) as stop:
        main(["digits", "--workdir", str(running[1]), *SETTINGS])
    assert stop.value.code == 2
    assert f"--workdir {running[1]}: a run is going on there, in another process" in capsys.readouterr().err
    assert running[0].poll() is None
    assert set(running[1].iterdir()) >= before


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The folder of a run that was stopped while it compiled."""
    config = parse(["digits", "--workdir", str(tmp_path), *SETTINGS]).config
    folder.create(tmp_path, {"recipe": "digits", "train_config": config.to_dict()}, overwrite=False)
    return tmp_path


def test_other_settings_are_refused_each_with_both_values(stopped: Path, capsys: pytest.CaptureFixture[str]):
    before = (stopped / "config.json").read_bytes()
    with pytest.raises(SystemExit) as stop:
        main(["digits", "--workdir", str(stopped), *SETTINGS, "--seed", "5", "--optimizer.clip-norm", "2"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "holds a run that was stopped, with other settings: optimizer.clip_norm was 1.0 and is 2.0; " in error
    assert "; seed was 0 and is 5. Give the same to go on with it, another folder, or --overwrite" in error
    assert (stopped / "config.json").read_bytes() == before
    assert list(stopped.iterdir()) == [stopped / "config.json"]


@pytest.mark.parametrize(
    "free",
    [
        "--log.steps 3 --checkpoint.minutes 1 --checkpoint.keep 9 --devices.fsdp --deterministic --remat --scan",
        "--data.dir elsewhere --data.threads 3 --data.prefetch 9 --attention explicit --on-nonfinite skip",
    ],
)
def test_settings_that_change_no_step_may_differ(stopped: Path, free: str):
    config = parse(["digits", "--workdir", str(stopped), *SETTINGS, *free.split()]).config
    folder.create(stopped, {"recipe": "digits", "train_config": config.to_dict()}, overwrite=False)


def test_a_run_whose_config_has_relative_paths_goes_on_with_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    given = parse(["digits", "--workdir", "run", *SETTINGS, "--data.name", "folder:photos"]).config
    Path("run").mkdir()
    for config in (given, absolute(given)):  # as it was kept once, and as it is kept now
        folder.create(Path("run"), {"recipe": "digits", "train_config": config.to_dict()}, overwrite=False)
    kept = read_config(Path("run"))[1]
    assert kept.data.name == "folder:photos"
    other = replace(given, data=replace(given.data, name="folder:others"))
    with pytest.raises(ConfigError, match=f"data.name was .*{tmp_path}/photos.* and is .*{tmp_path}/others"):
        folder.create(Path("run"), {"recipe": "digits", "train_config": absolute(other).to_dict()}, overwrite=False)


def test_a_run_that_is_older_than_a_setting_goes_on_with_its_default(stopped: Path):
    """A newer version may have more settings: they change nothing until they are given."""
    written = json.loads((stopped / "config.json").read_text())
    del written["train_config"]["attn_dropout"]
    (stopped / "config.json").write_text(json.dumps(written))
    config = parse(["digits", "--workdir", str(stopped), *SETTINGS]).config
    folder.create(stopped, {"recipe": "digits", "train_config": config.to_dict()}, overwrite=False)
    other = parse(["digits", "--workdir", str(stopped), *SETTINGS, "--attn-dropout", "0.1"]).config
    with pytest.raises(ConfigError, match=r"attn_dropout was 0.0 and is 0.1"):
        folder.create(stopped, {"recipe": "digits", "train_config": other.to_dict()}, overwrite=False)


def test_what_a_killed_run_had_begun_to_write_goes_and_what_it_was_replacing_comes_back(stopped: Path):
    for name in (
        ".best.0a1b0a1b0a1b0a1b.old",
        ".best.0a1c0a1c0a1c0a1c.part",
        ".checkpoint.2d2d2d2d2d2d2d2d.part",
        ".mine",
    ):
        (stopped / name).mkdir()
        (stopped / name / "model.safetensors").write_text(name)
    (stopped / ".config.json.0123456789abcdef.json").touch()
    written = json.loads((stopped / "config.json").read_text())
    folder.create(stopped, written, overwrite=False)
    assert {path.name for path in stopped.iterdir()} == {"config.json", "best", ".mine"}
    assert (stopped / "best" / "model.safetensors").read_text() == ".best.0a1b0a1b0a1b0a1b.old"


def test_what_a_killed_run_left_does_not_come_back_in_the_one_that_replaces_it(stopped: Path):
    for name in (".best.0a1b0a1b0a1b0a1b.old", ".best.0a1c0a1c0a1c0a1c.part", ".mine"):
        (stopped / name).mkdir()
    folder.create(stopped, json.loads((stopped / "config.json").read_text()), overwrite=True)
    drop(stopped)
    assert {path.name for path in stopped.iterdir()} == {"config.json", ".mine"}


@pytest.mark.slow
def test_a_run_stopped_on_five_devices_goes_on_on_one(whole: Path, tmp_path: Path):
    """Sums over devices have another order: the same run but for float32's last bits (measured: 8e-8)."""
    env = environment() | {"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}
    command = [sys.executable, "-m", "train", "digits", "--workdir", str(tmp_path), *SETTINGS, "--devices.fsdp"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=env, stdout=pipe, stderr=subprocess.STDOUT, text=True)
    stop_at(process, tmp_path, past(20), signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    finish(start(tmp_path))
    for found, expected in zip(rows(tmp_path), rows(whole), strict=True):
        assert max(gaps(found, expected).values()) < FLOAT32
