"""float64: the two models are one function, forward and backward, whatever the configuration."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parity_tests.compare import gaps, leaf_gaps, worst
from parity_tests.pairs import grads_flax, grads_torch, images_for, make_pair, run_flax, run_torch
from parity_tests.selection import quick
from parity_tests.strategies import configs
from parity_tests.tolerances import FORWARD, GRADIENT
from vit_convert.config import ViTConfig
from vit_convert.intermediates import intermediate_names

# No two dimensions alike, so that no transpose hides: batch 2, channels 3, grid 4 x 6, heads 5, patch 7 x 9, ...
SMALL = ViTConfig(image_size=(28, 54), patch_size=(7, 9), dim=40, depth=2, num_heads=5, mlp_dim=52, num_classes=11)

# One per construct, so that each is seen in every run; hypothesis then mixes them.
CONFIGS = {
    "plain": SMALL,
    "one channel": SMALL.replace(in_channels=1),
    "q and v biases": SMALL.replace(qkv_bias="qv"),
    "no biases": SMALL.replace(patch_bias=False, qkv_bias="none", proj_bias=False, mlp_bias=False, head_bias=False),
    "qk norm": SMALL.replace(qk_norm=True),
    "inner norms": SMALL.replace(patch_norm=True, attn_norm=True, mlp_norm=True),
    "rms norm and swiglu": SMALL.replace(norm="rms", mlp="swiglu", act="silu"),
    "norm before the blocks": SMALL.replace(pre_norm=True, patch_bias=False, act="quick_gelu", norm_eps=1e-5),
    "layer scale and registers": SMALL.replace(num_registers=3, pos_prefix="none", layer_scale=True),
    "registers, class position": SMALL.replace(num_registers=3, pos_prefix="class", pool="class_mean"),
    "registers with positions": SMALL.replace(num_registers=3, pos_prefix="all"),
    "registers, no class token": SMALL.replace(num_registers=2, pos_prefix="all", class_token=False, pool="mean"),
    "distilled": SMALL.replace(dist_token=True, pool="class_dist"),
    "mean of patches, norm after": SMALL.replace(pool="mean", final_norm="pooled"),
    "attention pooling": SMALL.replace(class_token=False, pool="map", act="gelu_tanh"),
    "attention pooling, swiglu": SMALL.replace(pool="map", mlp="swiglu", final_norm="pooled", mlp_bias=False),
    "sine-cosine": SMALL.replace(class_token=False, pos_embed="sincos2d", pool="mean"),
    "no positions, no final norm": SMALL.replace(pos_embed="none", final_norm="none"),
    "dinov3": SMALL.replace(num_registers=3, pos_embed="none", layer_scale=True, rope="dinov3", rope_theta=100),
    "eva02, qk norm": SMALL.replace(rope="eva02", rope_theta=1e4, rope_ref_grid=16, qk_norm=True, mlp_norm=True),
    "features only": SMALL.replace(num_classes=0, pre_logits=9),
    "distilled features": SMALL.replace(num_classes=0, dist_token=True, pool="class_dist"),
}


def check_forward(config: ViTConfig, seed: int = 0) -> None:
    """Every intermediate, the output with them, and the output without: the fused attention."""
    ours, flax = make_pair(config, seed)
    images, names = images_for(config, seed=seed), intermediate_names(config)
    found = gaps(run_flax(flax, images, names), run_torch(ours, images, names))
    assert max(found.values()) < FORWARD, worst(found)
    found = gaps(run_flax(flax, images), run_torch(ours, images))
    assert max(found.values()) < FORWARD, worst(found)


def check_gradients(config: ViTConfig, seed: int = 0, size: tuple[int, int] | None = None, **run: Any) -> None:
    """Every parameter's gradient and that of the images, for a random cotangent."""
    ours, flax = make_pair(config, seed, **run)
    images = images_for(config, seed=seed, size=size)
    cotangent = np.random.default_rng(seed + 1).standard_normal(run_torch(ours, images)["output"].shape)
    found = leaf_gaps(grads_flax(flax, images, cotangent), grads_torch(ours, images, cotangent))
    assert max(found.values()) < GRADIENT, worst(found)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_every_intermediate_and_the_output_agree(config):
    check_forward(config)


GRADED = (
    "no biases",
    "inner norms",
    "rms norm and swiglu",
    "layer scale and registers",
    "distilled",
    "attention pooling, swiglu",
    "sine-cosine",
    "dinov3",
    "eva02, qk norm",
)


@pytest.mark.parametrize("config", quick(CONFIGS, GRADED))
def test_every_gradient_leaf_agrees(config):
    check_gradients(config)


@pytest.mark.parametrize("rule", ["bicubic", "bilinear_antialias"])
def test_gradients_go_through_the_resize_of_positions(rule):
    check_gradients(SMALL.replace(pos_resize=rule), size=(35, 45), dynamic_size=True)


def test_gradients_of_the_explicit_attention_agree():
    check_gradients(SMALL, attention="explicit")


def test_any_configuration_agrees_forward_and_backward(examples):
    @settings(max_examples=examples, suppress_health_check=[HealthCheck.too_slow])
    @given(config=configs(), seed=st.integers(0, 2**16))
    def check(config: ViTConfig, seed: int) -> None:
        check_forward(config, seed)
        check_gradients(config, seed)

    check()
