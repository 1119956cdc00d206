"""Runs that read and decode photographs as they go, killed at random moments: the same bits as one never killed."""

import signal
from pathlib import Path

import pytest

from parity_tests.datasets import jpegs, write_folder
from parity_tests.runs import finish, past, rows, start_recipe, steps_in, stop_at, weights

SMALL = (
    "--model.image-size 32 --model.patch-size 8 --model.dim 16 --model.mlp-dim 32 --model.depth 2 --model.num-heads 2 "
    "--model.num-classes 2 --dtype float32 --batch-size 8 --steps 100 --log.steps 7 --eval-epochs 3 "
    "--checkpoint.steps 4 --ema-decay 0.9"
)
LAST_SAVED = 96  # after the last step the weights are written
RECIPES = {
    "deit_s": "AdamW, RandAugment, MixUp, CutMix, random erasing",
    "deit3_s": "LAMB, binary cross-entropy, 3-Augment, colour jitter",
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_streamed_run_killed_at_random_moments_ends_with_the_same_bits(recipe: str, tmp_path: Path):
    """With another number of threads each time, and of batches made ahead: they decide nothing."""
    write_folder(tmp_path / "photographs" / "train", jpegs(45))
    write_folder(tmp_path / "photographs" / "val", jpegs(11))
    settings = [*SMALL.split(), "--data.name", f"folder:{tmp_path / 'photographs'}"]
    settings += ["--data.train-split", "train", "--data.test-split", "val"]
    whole, run, cache = tmp_path / "whole", tmp_path / "run", tmp_path / "compiled"
    finish(start_recipe(recipe, whole, *settings, cache=cache))
    killed = 0
    for count in range(1, 6):
        step = max(steps_in(run), default=0)
        if step >= LAST_SAVED:
            break
        ahead = ("--data.threads", str(count), "--data.prefetch", str(6 - count))
        process = start_recipe(recipe, run, *settings, *ahead, cache=cache)
        stop_at(process, run, past(step), signal.SIGKILL, within=0.2)
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 3
    if not (run / "checkpoint").exists():
        finish(start_recipe(recipe, run, *settings, cache=cache))
    assert weights(run) == weights(whole)
    assert rows(run) == rows(whole)
