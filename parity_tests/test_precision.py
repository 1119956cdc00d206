"""float32 and bfloat16: our Flax error against the float64 truth is that of PyTorch, layer by layer."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests.compare import noise, rms
from parity_tests.noise import check_ratios, held_exactly, in_dtype, noise_by_kind
from parity_tests.pairs import grads_flax, grads_torch, images_for, run_flax, run_torch, to_flax
from parity_tests.selection import quick
from parity_tests.tolerances import NOISE_RATIO
from vit_convert.config import ViTConfig
from vit_flax import sums

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


SHARED = {
    "positions, biases": (sums.add, torch.add, (64, 24)),
    "layer scales": (sums.multiply, torch.mul, (24,)),
    "tokens": (
        lambda x, shared: sums.repeat(shared, len(x)),
        lambda x, shared: shared.expand(len(x), -1, -1),
        (1, 64, 24),
    ),
}


@pytest.mark.parametrize("what", SHARED)
def test_gradients_of_what_images_share_are_summed_in_float32_under_bfloat16(what: str):
    """Over 512 images; in bfloat16 the sum alone has four times the error."""
    ours, theirs, shape = SHARED[what]
    rng = np.random.default_rng(0)
    images, cotangent = (held_exactly(rng.standard_normal((512, 64, 24)) + 0.1, "bfloat16") for _ in range(2))
    shared = held_exactly(rng.standard_normal(shape), "bfloat16")
    _, pull = jax.vjp(partial(ours, jnp.asarray(images, jnp.bfloat16)), jnp.asarray(shared, jnp.bfloat16))
    found = np.asarray(jax.jit(pull)(jnp.asarray(cotangent, jnp.bfloat16))[0], np.float64)
    truth, in_torch = (gradient(theirs, images, shared, cotangent, dtype) for dtype in (torch.float64, torch.bfloat16))
    assert rms(found - truth) <= rms(in_torch - truth) * NOISE_RATIO


def gradient(function: Any, images: Any, shared: Any, cotangent: Any, dtype: torch.dtype) -> np.ndarray:
    """Of sum(function(images, shared) * cotangent), by `shared`."""
    leaf = torch.tensor(shared, dtype=dtype, requires_grad=True)
    output = function(torch.tensor(images, dtype=dtype), leaf)
    return torch.autograd.grad(output, leaf, torch.tensor(cotangent, dtype=dtype))[0].double().numpy()


def test_positions_and_tokens_of_a_whole_model_have_torchs_error_in_bfloat16():
    """Of many images: the sums over them are what can go wrong."""
    config = DEEP.replace(depth=1, dim=48, mlp_dim=48, num_registers=8, layer_scale=True)
    exact, rounded = in_dtype(config, "bfloat16")
    images = held_exactly(images_for(config, batch=64), "bfloat16")
    cotangent = held_exactly(np.random.default_rng(1).standard_normal((64, config.num_classes)), "bfloat16")
    truth = grads_torch(exact, images, cotangent)
    found = grads_flax(to_flax(rounded), images, cotangent), grads_torch(rounded, images, cotangent)
    check_ratios(*({name: noise(of, truth, [name]) for name in ("pos_embed", "reg_token")} for of in found))
