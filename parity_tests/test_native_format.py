"""docs/native-format.md's promises: files of version 1 stay what they were, and files that are too new are refused."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vit_flax
import vit_torch
from parity_tests.compare import gap
from parity_tests.native_v1.make import CASES, HERE, LABELS, PREPROCESS, images
from parity_tests.pairs import run_flax, run_torch
from parity_tests.tolerances import FORWARD
from vit_convert.checkpoint import Checkpoint, open_checkpoint
from vit_convert.config import REQUIRED, ViTConfig
from vit_convert.errors import CheckpointError

KEPT = {  # SHA-256 of config.json, model.safetensors and expected.npy, one after another
    "plain": "d5bd1ac91fc7c77c4e60357f14a18ce715ac0161a3258c531956f651671a55d4",
    "plain_flax": "94be15ee92dadbcefd5003a2f4d6d02dafefa77d6e078bb3dd1db3d1d92542ff",
    "rotary": "c0006dc376901cb765f7f6df549d98cb6e091ddea17ac92acbb1a3b6a30014ab",
}


def edited(tmp_path: Path, name: str, change: dict[str, Any]) -> Path:
    """A copy of a kept checkpoint whose config.json has other entries."""
    shutil.copytree(HERE / name, tmp_path / name)
    file = tmp_path / name / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | change), encoding="utf-8")
    return tmp_path / name


@pytest.mark.parametrize("name", CASES)
def test_the_kept_files_are_those_of_the_first_release(name: str) -> None:
    joined = b"".join(
        (HERE / name / file).read_bytes() for file in ("config.json", "model.safetensors", "expected.npy")
    )
    assert hashlib.sha256(joined).hexdigest() == KEPT[name]


@pytest.mark.parametrize("name", CASES)
def test_a_file_of_version_1_is_the_same_function_in_both_frameworks(name: str) -> None:
    expected = np.load(HERE / name / "expected.npy", allow_pickle=False)
    in_torch = vit_torch.ViT.from_pretrained(HERE / name, dtype=torch.float64)
    in_flax = vit_flax.ViT.from_pretrained(HERE / name, param_dtype=np.float64)
    assert gap(run_torch(in_torch, images())["output"], expected) < FORWARD
    assert gap(run_flax(in_flax, images())["output"], expected) < FORWARD


@pytest.mark.parametrize("name", CASES)
def test_a_file_of_version_1_keeps_its_config_labels_and_preprocessing(name: str) -> None:
    checkpoint: Checkpoint = open_checkpoint(HERE / name)
    assert checkpoint.config == CASES[name][0]
    assert checkpoint.layout == CASES[name][1]
    assert checkpoint.labels == LABELS
    assert checkpoint.preprocess == PREPROCESS


def test_a_field_that_a_file_is_too_old_to_have_means_its_default(tmp_path: Path) -> None:
    """So fields can be added within a version: their defaults are what models were before."""
    config = CASES["plain"][0]
    given = {field: value for field, value in config.to_dict().items() if field in REQUIRED}
    given["num_classes"] = config.num_classes
    checkpoint = open_checkpoint(edited(tmp_path, "plain", {"config": given}))
    assert checkpoint.config == config
    assert checkpoint.sources["rope"] == "default"


def test_a_field_that_is_unknown_is_refused_by_name(tmp_path: Path) -> None:
    """A newer release's model is never run as something else."""
    config = ViTConfig.to_dict(CASES["plain"][0]) | {"sigmoid_attention": True}
    with pytest.raises(CheckpointError, match=r"unknown fields \['sigmoid_attention'\]"):
        open_checkpoint(edited(tmp_path, "plain", {"config": config}))


def test_another_version_is_refused_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected format 'vit-parity' version 1, got 'vit-parity' version 2"):
        open_checkpoint(edited(tmp_path, "plain", {"version": 2}))
