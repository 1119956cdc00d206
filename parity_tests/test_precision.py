"""float32 and bfloat16: our Flax error against the float64 truth is that of PyTorch, layer by layer."""

import numpy as np
import pytest
import torch

import vit_flax
import vit_torch
from parity_tests.compare import kinds, noise, rms
from parity_tests.pairs import (
    grads_flax,
    grads_torch,
    held_exactly,
    images_for,
    make_pair,
    run_flax,
    run_torch,
    to_flax,
)
from parity_tests.tolerances import NOISE_RATIO
from vit_convert.config import ViTConfig

DEEP = ViTConfig(image_size=48, patch_size=8, dim=96, depth=8, num_heads=4, mlp_dim=384, num_classes=50)
CONFIGS = {
    "plain": DEEP,
    "swiglu, layer scale, registers": DEEP.replace(mlp="swiglu", act="silu", layer_scale=True, num_registers=4),
    "rms norm, inner norms, mean": DEEP.replace(norm="rms", attn_norm=True, mlp_norm=True, qk_norm=True, pool="mean"),
    "dinov3": DEEP.replace(rope="dinov3", rope_theta=100, pos_embed="none", num_registers=4),
    "eva02": DEEP.replace(rope="eva02", rope_theta=1e4, rope_ref_grid=16, mlp="swiglu", act="silu"),
    "attention pooling, tanh gelu": DEEP.replace(class_token=False, pool="map", act="gelu_tanh"),
}


def three(config: ViTConfig, dtype: str) -> tuple[vit_torch.ViT, vit_torch.ViT, vit_flax.ViT]:
    """(float64, torch in dtype, Flax in dtype) of the same weights, which are rounded once, for all three."""
    exact, _ = make_pair(config, seed=3)
    rounded = exact.to(getattr(torch, dtype))
    truth = vit_torch.ViT(config).double()
    truth.load_state_dict({name: x.double() for name, x in rounded.state_dict().items()})
    return truth, rounded, to_flax(rounded)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("weights", ["fused", pytest.param("attn.weights", marks=pytest.mark.slow)])
def test_flax_is_as_near_to_float64_as_torch_is(config, dtype, weights):
    exact, rounded, flax = three(config, dtype)
    names = ["embeddings", *(f"blocks.{i}" for i in range(config.depth)), "norm", "pooled"]
    if weights == "attn.weights":
        names += [f"blocks.{i}.attn.weights" for i in range(config.depth)]
    images = held_exactly(images_for(config, batch=16), dtype)
    truth = run_torch(exact, images, names)
    theirs, ours = run_torch(rounded, images, names), run_flax(flax, images, names)
    ratios = {name: rms(ours[name] - truth[name]) / rms(theirs[name] - truth[name]) for name in truth}
    worst = max(ratios, key=lambda name: ratios[name])
    assert ratios[worst] <= NOISE_RATIO, f"{worst}: {ratios[worst]:.2f} times PyTorch's error"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_flax_gradients_are_as_near_to_float64_as_torchs_are(dtype):
    """By kind of parameter, all blocks together: one bias alone has too few values for a steady mean."""
    config = DEEP.replace(depth=4)
    exact, rounded, flax = three(config, dtype)
    images = held_exactly(images_for(config, batch=16), dtype)
    cotangent = held_exactly(np.random.default_rng(1).standard_normal((16, config.num_classes)), dtype)
    truth = grads_torch(exact, images, cotangent)
    theirs, ours = grads_torch(rounded, images, cotangent), grads_flax(flax, images, cotangent)
    ratios = {kind: noise(ours, truth, n) / noise(theirs, truth, n) for kind, n in kinds(truth).items()}
    worst = max(ratios, key=lambda kind: ratios[kind])
    assert ratios[worst] <= NOISE_RATIO, f"{worst}: {ratios[worst]:.2f} times PyTorch's error"
