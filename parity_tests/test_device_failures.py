"""What devices can't do is one message: too little memory, or none of the kind that was asked for."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import train.run
from train.__main__ import main
from train.devices.failures import memory_failures
from train.errors import DeviceError


def too_much(*_: Any, **__: Any) -> None:
    """128 TiB."""
    jax.jit(lambda: jnp.zeros(2**47, jnp.uint8) + 1)().block_until_ready()


def test_too_little_memory_says_how_much_and_what_takes_less():
    message = f"the memory of a device is too small (RESOURCE_EXHAUSTED: Out of memory allocating {2**47}"
    expected = rf"^{re.escape(message)}.*\)\. Less is taken by a smaller batch$"
    with pytest.raises(DeviceError, match=expected), memory_failures("a smaller batch"):
        too_much()


def test_any_other_failure_of_a_device_is_left_as_it_is():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL: broken"), memory_failures("nothing"):
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")


def test_a_run_that_finds_too_little_memory_ends_with_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(train.run, "run", too_much)
    with pytest.raises(SystemExit) as stop:
        main(["digits", "--workdir", str(tmp_path)])
    said = capsys.readouterr().err
    assert stop.value.code == 1
    assert said.startswith("vit-train: error: the memory of a device is too small (")
    assert said.endswith("and, on several devices, --devices.fsdp\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize("words", ["digits --workdir run", "evaluate model --data digits"])
def test_no_device_of_the_kind_is_one_message(words: str, tmp_path: Path):
    command = [sys.executable, "-m", "train", *words.split()]
    environment = os.environ | {"JAX_PLATFORMS": "abacus"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "vit-train: error: JAX finds no device to compute on (JAX_PLATFORMS is 'abacus')" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
