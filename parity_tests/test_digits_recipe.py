"""`make train`'s recipe reaches what its docstring says, and its data are what they are said to be."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.config import StartConfig
from train.init import initialise
from train.input.data import Data, open_data
from train.recipes import RECIPES


@pytest.fixture(scope="module")
def data() -> Data:
    return open_data(RECIPES["digits"]())


def test_a_fixed_stratified_fifth_is_held_out(data: Data):
    train, test = data.whole_train, data.whole_test
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert train.images.shape == (1437, 8, 8, 1)
    assert train.images.dtype == np.uint8
    assert set(np.bincount(test.labels)) <= {35, 36, 37}
    assert (test.images == open_data(RECIPES["digits"]()).whole_test.images).all()
    # the greys of the two splits together are scikit-learn's, 16 of them over black
    assert set(np.unique(train.images)) == {round(n * 255 / 16) for n in range(17)}


def test_no_held_out_image_is_trained_on(data: Data):
    """The images of the set are all different, so none can be on both sides."""
    train, test = ({image.tobytes() for image in split.images} for split in (data.whole_train, data.whole_test))
    assert not train & test


def test_the_preprocessing_is_that_of_the_training_pixels(data: Data):
    pixels = data.whole_train.images / 255
    np.testing.assert_allclose(data.preprocess.mean, pixels.mean(), atol=1e-3)
    np.testing.assert_allclose(data.preprocess.std, pixels.std(), atol=1e-3)


def test_the_recipes_initial_values_are_drawn_and_the_others_left():
    drawn = {"pos_embed": (1, 17, 64), "blocks.0.mlp.fc2.kernel": (256, 64)}
    left = {"blocks.0.mlp.fc2.bias": (64,), "blocks.0.norm1.scale": (64,)}
    left |= {"patch_embed.proj.kernel": (2, 2, 1, 64), "head.kernel": (64, 10)}
    params = {path: jnp.full(shape, 7.0) for path, shape in (drawn | left).items()}
    found = initialise(params, RECIPES["digits"]().start, jax.random.key(0))
    assert found["pos_embed"].std() == pytest.approx(RECIPES["digits"]().start.pos_embed_std, rel=0.1)
    assert found["blocks.0.mlp.fc2.kernel"].std() == pytest.approx(256**-0.5, rel=0.1)
    assert all((found[path] == 7).all() for path in left)
    untouched = initialise(params, StartConfig(), jax.random.key(0))
    assert all((untouched[path] == 7).all() for path in params)


@pytest.mark.slow
def test_three_seeds_reach_their_accuracy(tmp_path: Path):
    mine = ("JAX_ENABLE_X64", "XLA_FLAGS")  # of the tests: compiled otherwise, it rounds and ends otherwise
    env = {name: value for name, value in os.environ.items() if name not in mine}
    accuracies = []
    for seed in range(3):
        workdir = tmp_path / str(seed)
        command = [sys.executable, "-m", "train", "digits", "--workdir", str(workdir), "--seed", str(seed)]
        subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)
        accuracies.append(json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])["test_accuracy"])
    # 98.5% was aimed at, and 98.33% is what it comes to: three images of 1,080 are left for other roundings and draws.
    assert np.mean(accuracies) >= 0.98, accuracies
