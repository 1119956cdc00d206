"""pytest parity_tests --checkpoint SRC: a good checkpoint passes, a broken one is one failure that says why."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vit_torch
from parity_tests.test_verify import SMALL, save
from parity_tests.verify.prove import no_gradients

ROOT = Path(__file__).resolve().parent.parent
TESTS = 14  # of test_checkpoint.py, each dtype one
# Of a machine that has no instructions for bfloat16, to which every model is a large one.
WITHOUT_INSTRUCTIONS = """
def pytest_configure(config):
    from parity_tests.verify import prove
    prove.backward_takes_minutes = lambda config, dtype: dtype == "bfloat16"
"""
# A mistake that people make when they write a ViT in JAX.
TANH_GELU = """
def pytest_configure(config):
    from vit_flax import mlp
    mlp.ACTIVATIONS["gelu"] = mlp.ACTIVATIONS["gelu_tanh"]
"""


def ran(folder: Path, checkpoint: Path, plugin: str = "") -> tuple[int, str]:
    """(exit code, what pytest printed)."""
    (folder / "of_a_test.py").write_text(plugin)
    options = ("-q", "-rsf", "-p", "no:cacheprovider", "-p", "of_a_test", "--checkpoint", str(checkpoint))
    command = [sys.executable, "-m", "pytest", "parity_tests", *options]
    paths = os.pathsep.join([str(folder), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def skipped(printed: str) -> set[str]:
    """The reasons, once each."""
    return set(re.findall(r"^SKIPPED \[\d+\] \S+: (.+)$", printed, re.MULTILINE))


@pytest.mark.slow
def test_a_good_checkpoint_passes_and_what_is_left_out_has_its_own_reason(tmp_path: Path) -> None:
    code, printed = ran(tmp_path, save(tmp_path / "good"), WITHOUT_INSTRUCTIONS)
    assert code == 0, printed
    reasons = skipped(printed)
    assert no_gradients("bfloat16") in reasons
    assert "vit_torch.ViT is itself the class of layout native" in reasons
    too_close = "bfloat16: all images are too close to call"
    assert reasons <= {no_gradients("bfloat16"), "vit_torch.ViT is itself the class of layout native", too_close}
    assert re.search(rf"^{TESTS - len(reasons)} passed, {len(reasons)} skipped", printed, re.MULTILINE), printed


@pytest.mark.slow
def test_frameworks_that_disagree_are_failures_that_say_where(tmp_path: Path) -> None:
    code, printed = ran(tmp_path, save(tmp_path / "good"), TANH_GELU)
    assert code == 1
    failed = set(re.findall(r"^FAILED \S+::(\w+)", printed, re.MULTILINE))
    assert {"test_every_intermediate_agrees_in_float64", "test_every_gradient_agrees_in_float64"} <= failed
    assert "test_every_tensor_has_the_file_s_bits_in_both" not in failed
    assert "PyTorch and Flax part at blocks.0 (float64)" in printed


@pytest.mark.slow
def test_a_checkpoint_with_nan_is_one_failure_that_names_the_tensor(tmp_path: Path) -> None:
    model = vit_torch.ViT(SMALL)
    with torch.no_grad():
        model.get_parameter("blocks.1.norm1.weight")[3] = torch.nan
    model.save_pretrained(tmp_path / "nan")
    code, printed = ran(tmp_path, tmp_path / "nan")
    assert code == 1
    assert re.search(rf"^1 failed, {TESTS - 1} skipped", printed, re.MULTILINE), printed
    assert "values that are NaN or infinite, so nothing can be compared: blocks.1.norm1.weight (1)" in printed
    assert skipped(printed) == {"nothing was measured"}
    assert "Traceback" not in printed
