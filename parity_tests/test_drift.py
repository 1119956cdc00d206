"""benchmarks/drift.py draws what it says: two frameworks that part by rounding alone, far less in float64."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.drift import main
from parity_tests.tolerances import DRIFT, PARAMETERS


@pytest.mark.slow
def test_the_drift_is_rounding_and_a_picture_shows_it(tmp_path: Path):
    steps = 12
    main(["--steps", str(steps), "--seeds", "1", "--out", str(tmp_path / "a.png"), "--json", str(tmp_path / "a.json")])
    (found,) = json.loads((tmp_path / "a.json").read_text())
    params = {label: np.array(pair[0]) for label, pair in found.items()}
    assert all(x.shape == (steps,) and (x[1:] > 0).all() for x in params.values())
    assert params.pop("Flax and PyTorch, float64").max() < PARAMETERS
    for label, x in params.items():
        last = float(x[-1])
        assert last > PARAMETERS, label
        assert last < DRIFT, label
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (960, 900)
