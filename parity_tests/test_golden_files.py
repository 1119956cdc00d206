"""Golden files are the ones that the original code wrote: hashes match, none is missing, none unaccounted for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity_tests.golden.case import sha256
from parity_tests.golden.make import FAMILIES
from parity_tests.golden.tf_image_resize import FILE as PICTURES
from vit_convert.config import ViTConfig

ROOT = Path(__file__).parent / "golden"
RECORDS = sorted(ROOT.glob("*/*.json"))
MEBIBYTE = 2**20


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_family_has_golden_files_and_every_file_a_record():
    records = [read(path) for path in RECORDS]
    assert {record["family"] for record in records} == set(FAMILIES)
    named = {ROOT / r["family"] / name for r in records for name in (r["file"], f"{r['case']}.expected.npz")}
    present = {path for path in ROOT.glob("*/*") if path.parent.name != "__pycache__"}  # a folder is one checkpoint
    assert present == named | set(RECORDS) | {PICTURES}


def test_golden_files_stay_small():
    sizes = [path.stat().st_size for path in ROOT.glob("*/**/*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(sizes) < 3 * MEBIBYTE
    assert max(sizes) < MEBIBYTE / 4


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_golden_file_is_the_one_that_its_record_describes(path: Path):
    record = read(path)
    assert sha256(path.parent / record["file"]) == record["sha256"]
    assert sha256(path.with_suffix(".expected.npz")) == record["expected_sha256"]
    assert set(record["provenance"]) >= {"repository", "commit", "command", "versions", "changed_at_run_time"}


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_expected_outputs_are_float64_and_finite(path: Path):
    record = read(path)
    with np.load(path.with_suffix(".expected.npz"), allow_pickle=False) as arrays:
        pixels = {f"images_{height}x{width}" for height, width in record["sizes"]}
        assert set(arrays) == pixels | set(record["outputs"])
        assert all(arrays[name].dtype == np.uint8 for name in pixels)
        assert all(arrays[name].dtype == np.float64 for name in record["outputs"])
        assert all(np.isfinite(arrays[name]).all() for name in record["outputs"])


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_record_names_config_fields(path: Path):
    assert set(read(path)["config"]) <= set(ViTConfig.__dataclass_fields__)
