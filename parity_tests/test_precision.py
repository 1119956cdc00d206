"""float32 and bfloat16: our Flax error against the float64 truth is that of PyTorch, layer by layer."""

import numpy as np
import pytest

from parity_tests.compare import rms
from parity_tests.noise import check_ratios, held_exactly, in_dtype, noise_by_kind
from parity_tests.pairs import grads_flax, grads_torch, images_for, run_flax, run_torch, to_flax
from parity_tests.selection import quick
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


CASES = [(config, dtype) for config in CONFIGS for dtype in ("float32", "bfloat16")]
QUICK = [
    ("rms norm, inner norms, mean", "float32"),
    ("attention pooling, tanh gelu", "bfloat16"),
]


@pytest.mark.parametrize(("config", "dtype"), quick(CASES, QUICK))
@pytest.mark.parametrize("weights", ["fused", pytest.param("attn.weights", marks=pytest.mark.slow)])
def test_flax_is_as_near_to_float64_as_torch_is(config, dtype, weights):
    config = CONFIGS[config]
    exact, rounded = in_dtype(config, dtype)
    names = ["embeddings", *(f"blocks.{i}" for i in range(config.depth)), "norm", "pooled"]
    if weights == "attn.weights":
        names += [f"blocks.{i}.attn.weights" for i in range(config.depth)]
    images = held_exactly(images_for(config, batch=16), dtype)
    truth = run_torch(exact, images, names)
    theirs, ours = run_torch(rounded, images, names), run_flax(to_flax(rounded), images, names)
    check_ratios(*({name: rms(x[name] - truth[name]) for name in truth} for x in (ours, theirs)))


@pytest.mark.parametrize("dtype", quick(["float32", "bfloat16"], ["bfloat16"]))
def test_flax_gradients_are_as_near_to_float64_as_torchs_are(dtype):
    config = DEEP.replace(depth=4)
    exact, rounded = in_dtype(config, dtype)
    images = held_exactly(images_for(config, batch=16), dtype)
    cotangent = held_exactly(np.random.default_rng(1).standard_normal((16, config.num_classes)), dtype)
    truth = grads_torch(exact, images, cotangent)
    theirs, ours = grads_torch(rounded, images, cotangent), grads_flax(to_flax(rounded), images, cotangent)
    check_ratios(noise_by_kind(ours, truth), noise_by_kind(theirs, truth))
