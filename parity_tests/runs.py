"""vit-train in a process of its own, which can be stopped at any moment."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

# Everything that draws or remembers: mixing, dropout, stochastic depth, moments, averaged weights.
GIVEN = (
    "--model.dim 16 --model.mlp-dim 32 --model.depth 2 --model.num-heads 2 --batch-size 100 --steps 48 --log.steps 7 "
    "--eval-epochs 0.5 --augment.mixup-alpha 0.2 --augment.cutmix-alpha 1 --augment.label-smoothing 0.1 "
    "--dropout 0.1 --drop-path 0.2 --ema-decay 0.9 --optimizer.clip-norm 1 --checkpoint.steps 4"
)
SETTINGS = GIVEN.split()
TIMES = {"seconds", "images_per_second", "step_seconds", "input_wait"}
Moment = Callable[[Path], bool]


def environment(cache: Path | None = None) -> dict[str, str]:
    """Of a run in float32; with a cache, programs are compiled once for all processes."""
    env = {name: value for name, value in os.environ.items() if name != "JAX_ENABLE_X64"}
    if cache is None:
        return env
    limits = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    return env | limits | {"JAX_COMPILATION_CACHE_DIR": str(cache)}


def start(workdir: Path, *settings: str, cache: Path | None = None) -> subprocess.Popen[str]:
    """The digits, with these settings after SETTINGS."""
    return start_recipe("digits", workdir, *SETTINGS, *settings, cache=cache)


def start_recipe(recipe: str, workdir: Path, *settings: str, cache: Path | None = None) -> subprocess.Popen[str]:
    """The command, as a user gives it."""
    command = [sys.executable, "-m", "train", recipe, "--workdir", str(workdir), *settings]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment(cache), stdout=pipe, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """Waits for the end of a run that goes well; what it printed."""
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed
    return printed


def stop_at(process: subprocess.Popen[str], workdir: Path, moment: Moment, number: int, within: float = 0.0) -> str:
    """Sends the signal when the moment has come, or up to so many seconds later; what the process had printed."""
    wait_for(process, workdir, moment)
    delay = random.uniform(0, within)
    time.sleep(delay)
    print(f"stopped by {number} {delay:.3f} s after {moment.__name__}, with {steps_in(workdir)}")  # shown on failure
    process.send_signal(number)
    printed, _ = process.communicate(timeout=600)
    return printed


def wait_for(process: subprocess.Popen[str], workdir: Path, moment: Moment) -> None:
    end = time.monotonic() + 600
    while not moment(workdir):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.001)


def steps_in(workdir: Path) -> list[int]:
    """The steps that have their names, in order."""
    return sorted(int(path.name) for path in (workdir / "steps").glob("*") if path.name.isdecimal())


def setting_up(workdir: Path) -> bool:
    """The moment from which on programs are compiled."""
    return (workdir / "metrics.jsonl").exists()


def saving(workdir: Path) -> bool:
    """The moment in which a step is being written."""
    return any((workdir / "steps").glob("*.orbax-checkpoint-tmp/state/*/*"))


def past(step: int) -> Moment:
    """The moment from which on a later step is there."""

    def later(workdir: Path) -> bool:
        return max(steps_in(workdir), default=0) > step

    return later


def weights(workdir: Path) -> dict[str, str]:
    """The sums of all weights that a run leaves."""
    names = ("checkpoint", "best", "last")
    return {name: sha256((workdir / name / "model.safetensors").read_bytes()).hexdigest() for name in names}


def rows(workdir: Path) -> list[dict[str, Any]]:
    """metrics.jsonl, without what is measured by the clock."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in TIMES} for line in lines]
