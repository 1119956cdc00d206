"""The folder of a run is one process's while the run goes on, whichever of both loops has it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from train.config import ConfigError
from train.workdir import claimed
from vit_convert.lock import LOCK
from vit_torch.training import main

SMALL = "--model.dim 8 --model.mlp-dim 8 --model.depth 1 --model.num-heads 1 --batch-size 20 --log.steps 1"
TINY = SMALL.split()
OVERWRITE = pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["goes on", "overwrite"])
BOUND = 120  # seconds that a run has to begin


def refused(workdir: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What the torch loop says on its way out with code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([*TINY, "--workdir", str(workdir), *options])
    assert stop.value.code == 2
    return capsys.readouterr().err


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def going_on(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The torch loop in a process of its own, which has made steps."""
    command = [sys.executable, "-m", "vit_torch.training", *TINY, "--workdir", str(tmp_path)]
    rows, until = tmp_path / "metrics.jsonl", time.monotonic() + BOUND
    with subprocess.Popen(
        [*command, "--steps", "1000000", "--checkpoint.steps", "2"], stdout=subprocess.DEVNULL
    ) as process:
        try:
            while not ((tmp_path / "state").is_dir() and rows.is_file() and rows.read_text().count("\n") > 3):
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


@OVERWRITE
def test_the_torch_loop_changes_nothing_in_a_folder_that_vit_train_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overwrite: list[str]
):
    main([*TINY, "--steps", "4", "--stop-after", "2", "--workdir", str(tmp_path)])
    assert not (tmp_path / LOCK).exists()
    with claimed(tmp_path):
        there = files(tmp_path)
        said = refused(tmp_path, capsys, "--steps", "4", *overwrite)
        assert files(tmp_path) == there
    message = f"--workdir {tmp_path}: a run is going on there, in another process"
    assert said == f"vit_torch.training: error: {message}\n"


def test_a_torch_loop_has_its_folder_until_it_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], going_on: subprocess.Popen[bytes]
):
    begun = (tmp_path / "config.json").read_bytes()
    for options in ([], ["--overwrite"]):
        said = refused(tmp_path, capsys, "--steps", "1000000", "--stop-after", "1", *options)
        assert said.count("\n") == 1
        assert "a run is going on there, in another process" in said
    with pytest.raises(ConfigError, match="a run is going on there, in another process"), claimed(tmp_path):
        pass
    assert going_on.poll() is None
    assert (tmp_path / "config.json").read_bytes() == begun
    going_on.kill()
    going_on.wait()
    with claimed(tmp_path):
        pass
    main([*TINY, "--steps", "1000000", "--stop-after", "1", "--workdir", str(tmp_path)])
    assert "going on from step" in capsys.readouterr().out


def test_a_folder_that_is_refused_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "steps").mkdir()
    assert "holds steps, but no config.json of a run" in refused(tmp_path, capsys, "--steps", "4")
    assert [path.name for path in tmp_path.iterdir()] == ["steps"]
