"""Several processes are one run: each reads its rows, the first writes, all say what is wrong.

Two processes on this machine, over loopback, whose CPUs tell each other by Gloo.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_flax
from parity_tests.compare import gap
from parity_tests.datasets import jpegs, tiny_config, write_folder
from parity_tests.placements import CONFIG, STEPS
from parity_tests.test_train_cli import TINY
from parity_tests.tolerances import FLOAT32_CHAIN, LOSS
from train.__main__ import main
from train.config import ConfigError
from train.devices import hosts
from train.devices.placement import make_placement
from train.input.data import Data, open_data
from train.run import Run, check_hosts

Runs = dict[str, dict[str, Any]]
DEVICES = "--xla_force_host_platform_device_count=2"  # a process
SHARED = ["replicated", "fsdp", "tensor 4", "fsdp and tensor 2"]  # over all four devices: both processes


def free_port() -> int:
    with socket.socket() as at:
        at.bind(("127.0.0.1", 0))
        return at.getsockname()[1]


def together(commands: Sequence[Sequence[str]], envs: Sequence[dict[str, str]]) -> list[tuple[int, str, str]]:
    """(exit code, stdout, stderr) of Python modules that run side by side, on two devices each."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {DEVICES}", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command, env in zip(commands, envs, strict=True)
    ]
    try:
        return [(process.returncode, *said) for process in started for said in [process.communicate(timeout=570)]]
    finally:
        for process in started:
            process.kill()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runs, Runs, Runs]:
    """The runs of the two processes, and of one process with one device that the whole batch is read by."""
    folder, port = tmp_path_factory.mktemp("hosts"), free_port()
    outs = [folder / f"{name}.json" for name in ("first", "second", "alone")]
    joined = [["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process-id", str(i)] for i in range(2)]
    commands = [
        ["parity_tests.placements", str(out), *SHARED, *more] for out, more in zip(outs[:2], joined, strict=True)
    ]
    commands.append(["parity_tests.placements", str(outs[2]), "one device"])
    for code, _, error in together(commands, [{}] * 3):
        assert code == 0, error
    first, second, alone = (json.loads(out.read_text()) for out in outs)
    return first, second, alone


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_device(runs: tuple[Runs, Runs, Runs], name: str):
    *both, alone = runs
    one = np.array(alone["one device"]["losses"])
    assert len(one) == 100
    assert np.ptp(one) > 0.1
    for run in both:
        assert float(np.abs(np.array(run[name]["losses"]) - one).max()) < LOSS


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("what", ["batches", "draws", "initial", "confusion"])
@pytest.mark.slow
def test_two_processes_have_the_batches_and_draws_of_one_device(runs: tuple[Runs, Runs, Runs], name: str, what: str):
    *both, alone = runs
    assert [run[name][what] for run in both] == [alone["one device"][what]] * 2


@pytest.mark.parametrize("name", ["replicated", "fsdp", "fsdp and tensor 2"])
@pytest.mark.slow
def test_each_process_reads_its_own_rows(runs: tuple[Runs, Runs, Runs], name: str):
    first, second, alone = runs
    rows = first[name]["rows"], second[name]["rows"], alone["one device"]["rows"]
    assert rows == ([0, 8], [8, 16], [0, 16])
    assert [first[name]["read"], second[name]["read"]] == [STEPS * 8] * 2
    assert alone["one device"]["read"] == STEPS * 16


def slurm(port: int, process: int) -> dict[str, str]:
    """What srun says to each of two tasks of a job whose number gives that port: jax/_src/clusters/slurm_cluster.py."""
    names = {"JOB_ID": port, "STEP_NODELIST": "127.0.0.1", "NTASKS": 2, "PROCID": process, "LOCALID": 0}
    return {f"SLURM_{name}": str(value) for name, value in names.items()}


def slurm_port() -> int:
    """A free one of those that JAX chooses from: 61440 + job number modulo 4096."""
    for port in range(61440 + os.getpid() % 4000, 65536):
        with socket.socket() as at:
            if at.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("no port is free")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, str, str]]]:
    """A very short run by the command itself, as SLURM would start it on two hosts."""
    folder, port = tmp_path_factory.mktemp("slurm") / "run", slurm_port()
    command = ["train", "digits", "--workdir", str(folder), *TINY.split(), "--devices.fsdp", "--distributed"]
    found = together([command] * 2, [slurm(port, i) | {"JAX_ENABLE_X64": "0"} for i in range(2)])
    for code, _, error in found:
        assert code == 0, error
    return folder, found


@pytest.mark.slow
def test_the_first_process_writes_and_speaks_alone(trained: tuple[Path, list[tuple[int, str, str]]]):
    folder, ((_, first, _), (_, second, _)) = trained
    assert "cpu x 4" in first
    assert "held-out accuracy" in first
    assert "Gloo" in second
    of_gloo = re.compile("Gloo|peer ranks")  # its threads write into each other's lines
    assert not [line for line in second.splitlines() if not of_gloo.search(line)]
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 4, 6, 7, 7]


@pytest.mark.slow
def test_a_run_on_two_hosts_learns_what_one_on_one_host_learns(
    trained: tuple[Path, list[tuple[int, str, str]]], tmp_path: Path
):
    """In float32, to its rounding; and the checkpoint is whole."""
    with jax.enable_x64(False):
        main(["digits", "--workdir", str(tmp_path), *TINY.split()])
    ours, alone = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (trained[0], tmp_path)
    )
    for a, b in zip(ours, alone, strict=True):
        assert a.keys() == b.keys()
        names = {"test_loss", "test_correct", "loss", "accuracy", "grad_norm", "learning_rate"} & a.keys()
        assert max(gap(a[name], b[name]) for name in names) < FLOAT32_CHAIN
    a, b = (vit_flax.ViT.from_pretrained(at / "checkpoint") for at in (trained[0], tmp_path))
    images = jnp.asarray(np.random.default_rng(0).standard_normal((64, 8, 8, 1), np.float32))
    assert gap(np.asarray(a(images)), np.asarray(b(images))) < FLOAT32_CHAIN


@pytest.mark.slow
def test_a_mistake_that_one_host_meets_is_said_by_all(trained: tuple[Path, list[tuple[int, str, str]]]):
    """Only the first looks at the folder: the other would wait for it for ever."""
    port = slurm_port()
    command = ["train", "digits", "--workdir", str(trained[0]), *TINY.split(), "--seed", "5", "--distributed"]
    found = together([command] * 2, [slurm(port, i) for i in range(2)])
    assert [code for code, _, _ in found] == [2, 2]
    assert all(f"process 0: --workdir {trained[0]} already holds a run" in error for _, _, error in found)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--coordinator 10.0.0.1:1234", "--coordinator, --processes and --process-id go together: add"),
        ("--process-id 0", "go together"),
        ("--coordinator nowhere --processes 2 --process-id 0", "--coordinator must be HOST:PORT of process 0, got"),
        ("--coordinator a:1 --processes 2 --process-id 2", "--process-id must be from 0 to --processes - 1 = 1, got 2"),
    ],
)
def test_what_names_no_process_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: str, said: str):
    with pytest.raises(SystemExit) as stop:
        main(["digits", "--workdir", str(tmp_path / "run"), *arguments.split()])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_distributed_where_nothing_says_which_process_this_is(tmp_path: Path):
    ((code, _, error),) = together([["train", "digits", "--workdir", str(tmp_path / "run"), "--distributed"]], [{}])
    assert code == 2
    assert "--distributed: JAX finds no SLURM, GKE, TPU pod or Open MPI here" in error
    assert "give --coordinator HOST:PORT --processes N --process-id I" in error


def test_one_host_has_all_the_rows():
    assert hosts.rows_of_this_host(make_placement(CONFIG, jax.devices()[:1]).batch, 16) == slice(0, 16)


def told_by(data: Data, monkeypatch: pytest.MonkeyPatch) -> tuple[int, ...]:
    """What a process with these data tells the others."""
    told: list[tuple[int, ...]] = []
    monkeypatch.setattr(hosts, "gather_numbers", lambda *numbers: told.append(numbers) or [numbers])
    check_hosts(data)
    return told[0]


def test_processes_with_other_settings_or_data_are_named_by_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each would train on its own, and the gradients' mean be that of no run."""
    for name, count in (("a", 9), ("b", 8)):
        for split in ("train", "test"):
            write_folder(tmp_path / name / split, jpegs(count))
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere")
    a, b, elsewhere = (tiny_config(f"folder:{tmp_path / name}", threads=len(name)) for name in ("a", "b", "elsewhere"))
    first = open_data(a)
    rows = [told_by(open_data(c), monkeypatch) for c in (a, elsewhere, b, replace(a, seed=1))]
    monkeypatch.setattr(hosts, "gather_numbers", lambda *numbers: rows[:2])
    check_hosts(first)
    for own in (first, open_data(b)):
        monkeypatch.setattr(hosts, "gather_numbers", lambda *numbers: rows)
        with pytest.raises(ConfigError) as error:
            check_hosts(own)
        found = "settings (process 3); training images (process 2); held-out images (process 2): start all"
        assert f"differ from process 0 in {found}" in str(error.value)


def test_a_sink_that_only_the_first_process_opens_stops_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As W&B does without a login."""
    said = "--log.wandb digits: W&B says: no login"
    first = np.frombuffer(said.encode().ljust(hosts.MESSAGE_BYTES, b"\0"), np.uint8)
    monkeypatch.setattr(hosts.jax, "process_count", lambda: 2)
    monkeypatch.setattr(hosts.jax, "process_index", lambda: 1)
    monkeypatch.setattr(hosts.multihost_utils, "process_allgather", lambda own: np.stack([first, own]))
    step: Any = SimpleNamespace(config=CONFIG)
    of: dict[str, Any] = dict(data=None, placement=None, start=None)
    with pytest.raises(ConfigError, match=f"process 0: {said}"):
        Run("tiny", step, workdir=tmp_path, **of).sinks(0)


@pytest.mark.slow
def test_images_that_one_host_alone_cannot_read_end_the_run_and_it_says_why(tmp_path: Path):
    """The other one, which waits for it in a step, ends as well instead of waiting for ever."""
    write_folder(tmp_path / "train", jpegs(32, classes=2))
    write_folder(tmp_path / "test", jpegs(4, classes=2))
    next((tmp_path / "train").glob("*/*.jpg")).write_bytes(b"")
    port = free_port()
    settings = "--model.dim 16 --model.mlp-dim 32 --model.depth 1 --model.num-heads 2 --steps 100 --batch-size 4"
    settings += " --augment.mixup-alpha 0 --augment.cutmix-alpha 0 --eval-epochs 100 --model.in-channels 3"
    settings += " --model.num-classes 2 --data.mean None --data.std None --data.max-corrupt 0"
    settings += f" --data.name folder:{tmp_path}"
    joined = [["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process-id", str(i)] for i in range(2)]
    command = ["train", "digits", "--workdir", str(tmp_path / "run"), *settings.split()]
    found = together([[*command, *of] for of in joined], [{"JAX_ENABLE_X64": "0"}] * 2)
    assert all(code for code, _, _ in found)
    said = [error for _, _, error in found if "1 of 32 images can't be decoded" in error]
    assert len(said) == 1
    assert "vit-train: error: process " in said[0]
    assert not (tmp_path / "run" / "checkpoint").exists()


@pytest.mark.slow
def test_a_host_that_dies_ends_the_others(tmp_path: Path):
    """Before JAX's own 100 seconds are over: the connection breaks."""
    port, folder = free_port(), tmp_path / "run"
    long = f"{TINY} --steps 1000000 --eval-epochs 1000".split()
    joined = ["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process-id"]
    command = [sys.executable, "-m", "train", "digits", "--workdir", str(folder), *long, *joined]
    second = subprocess.Popen([*command, "1"])
    with subprocess.Popen([*command, "0"], stderr=subprocess.PIPE, text=True) as first:
        metrics = folder / "metrics.jsonl"
        for _ in range(1200):
            if metrics.is_file() and metrics.stat().st_size:
                break
            time.sleep(0.1)
        second.kill()
        second.wait()
        assert metrics.stat().st_size
        _, error = first.communicate(timeout=90)
    assert first.returncode == 1
    assert "Connection" in error
