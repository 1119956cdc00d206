"""Attention maps put the heat where the attention is, to the patch."""

import numpy as np
import pytest
import torch
from PIL import Image

from parity_tests.compare import gap
from parity_tests.pairs import images_for, make_pair, run_flax, run_torch
from parity_tests.tolerances import FORWARD
from vit_convert.config import ViTConfig
from vit_tools.attention_map import attention_map, draw_attention

CONFIG = ViTConfig(image_size=(12, 20), patch_size=(4, 5), dim=24, depth=2, num_heads=3, mlp_dim=40, num_registers=2)


def planted(config: ViTConfig, row: int, column: int) -> np.ndarray:
    """Weights (1, 3, T, T) that all look at one patch, with half of it on the class token."""
    tokens = config.num_prefix + config.num_patches
    weights = np.zeros((1, 3, tokens, tokens))
    weights[..., 0] = 0.5
    weights[..., config.num_prefix + row * config.grid[1] + column] = 0.5
    return weights


@pytest.mark.parametrize("pool", ["class", "mean", "class_mean"])
def test_the_heat_is_on_the_patch_that_is_looked_at(pool):
    config = CONFIG.replace(pool=pool)
    heat = attention_map(planted(config, 2, 1), config)
    assert heat.shape == (1, 3, 4)
    assert heat[0, 2, 1] == 0.5
    assert heat.sum() == 0.5  # what the class token takes is missing, not spread


def test_class_pooling_shows_what_the_class_token_reads_and_no_other():
    weights = planted(CONFIG, 0, 0)
    weights[:, :, 1:] = planted(CONFIG, 2, 3)[:, :, 1:]
    assert attention_map(weights, CONFIG)[0, 0, 0] == 0.5
    assert attention_map(weights, CONFIG.replace(pool="mean"))[0, 2, 3] == 0.5


def test_heads_are_averaged():
    weights = planted(CONFIG, 1, 1)
    weights[:, 0] = 0
    assert attention_map(weights, CONFIG)[0, 1, 1] == pytest.approx(1 / 3)


def test_both_frameworks_give_the_same_map():
    config = CONFIG.replace(num_classes=7)
    ours, flax = make_pair(config)
    images, name = images_for(config), "blocks.1.attn.weights"
    theirs = attention_map(run_torch(ours, images, [name])[name], config)
    assert gap(attention_map(run_flax(flax, images, [name])[name], config), theirs) < FORWARD


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torchs_own_tensors_are_taken(dtype):
    weights = torch.tensor(planted(CONFIG, 2, 1), dtype=dtype, requires_grad=True)
    assert attention_map(weights, CONFIG)[0, 2, 1] == 0.5


def test_weights_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"must be \(B, H, 15, 15\), got \(1, 3, 14, 14\)"):
        attention_map(np.zeros((1, 3, 14, 14)), CONFIG)


def test_the_picture_is_drawn(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 20, 3), np.uint8)
    maps = np.concatenate([attention_map(planted(CONFIG, 2, i % 4), CONFIG) for i in range(5)])
    draw_attention(images, maps, [f"image {i}" for i in range(5)], tmp_path / "attention.png")
    with Image.open(tmp_path / "attention.png") as picture:
        assert picture.size[0] > 800
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 100
