"""float32 and bfloat16: our Flax error against the float64 truth is that of PyTorch, layer by layer."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests.compare import rms
from parity_tests.pairs import images_for, make_pair, run_flax, run_torch, to_flax
from parity_tests.tolerances import NOISE_RATIO
from vit_convert.config import ViTConfig

DEEP = ViTConfig(image_size=48, patch_size=8, dim=96, depth=8, num_heads=4, mlp_dim=384, num_classes=50)
CONFIGS = {
    "plain": DEEP,
    "swiglu, layer scale, registers": DEEP.replace(mlp="swiglu", act="silu", layer_scale=True, num_registers=4),
    "rms norm, inner norms, mean": DEEP.replace(norm="rms", attn_norm=True, mlp_norm=True, qk_norm=True, pool="mean"),
    "attention pooling, tanh gelu": DEEP.replace(class_token=False, pool="map", act="gelu_tanh"),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("weights", ["fused", "attn.weights"])
def test_flax_is_as_near_to_float64_as_torch_is(config, dtype, weights):
    exact, _ = make_pair(config, seed=3)
    rounded = exact.to(getattr(torch, dtype))  # the same module: its weights are rounded here, once, for both
    truth_model = type(exact)(config).double()
    truth_model.load_state_dict({name: x.double() for name, x in rounded.state_dict().items()})
    flax = to_flax(rounded)
    names = ["embeddings", *(f"blocks.{i}" for i in range(config.depth)), "norm", "pooled"]
    if weights == "attn.weights":
        names += [f"blocks.{i}.attn.weights" for i in range(config.depth)]
    # Images that the narrow type holds exactly, so that all three see the same ones.
    images = np.asarray(jnp.asarray(images_for(config, batch=16)).astype(dtype), np.float64)
    truth = run_torch(truth_model, images, names)
    theirs, ours = run_torch(rounded, images, names), run_flax(flax, images, names)
    ratios = {name: rms(ours[name] - truth[name]) / rms(theirs[name] - truth[name]) for name in truth}
    worst = max(ratios, key=lambda name: ratios[name])
    assert ratios[worst] <= NOISE_RATIO, f"{worst}: {ratios[worst]:.2f} times PyTorch's error"
