"""Every path through the blocks is one function: each attention, layers scanned or not, rematerialised or not.

float64: each is PyTorch's explicit attention, unrolled. bfloat16: each is as near to float64 as torch's own kernel.
In Flax "fused" is the explicit formula, left to XLA to fuse. "jax.nn" is JAX's own attention on XLA, which no model of
ours uses: what it loses is what cuDNN's, the same call with another implementation, may lose.
On a GPU: JAX_PLATFORMS=cuda,cpu python -m pytest parity_tests/test_attention_paths.py
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import vit_flax.attention
import vit_flax.vit
import vit_torch
import vit_torch.attention
from parity_tests.compare import gap, leaf_gaps, rms, worst
from parity_tests.noise import check_ratios, held_exactly, in_dtype, noise_by_kind
from parity_tests.pairs import AS_USERS, Arrays, answers_flax, answers_torch, images_for, randomise, to_flax
from parity_tests.selection import quick
from parity_tests.test_forward_parity import SMALL
from parity_tests.test_precision import DEEP
from parity_tests.tolerances import FORWARD, GRADIENT
from train.devices.kernels import has_cudnn
from vit_convert.config import ViTConfig

CONFIGS = {
    "plain": SMALL,
    "rotary, q and k norms": SMALL.replace(rope="eva02", rope_theta=1e4, rope_ref_grid=16, qk_norm=True),
    "attention pooling": SMALL.replace(class_token=False, pool="map", attn_norm=True, qkv_bias="qv"),
}
# torch's kernels: which it may choose from.
SDPA: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "its own choice": nullcontext,
    "math": lambda: sdpa_kernel([SDPBackend.MATH]),
    "flash": lambda: sdpa_kernel([SDPBackend.FLASH_ATTENTION]),
}
LAYERS: dict[str, dict[str, bool]] = {
    "unrolled": {},
    "rematerialised": {"remat": True},
    "scanned": {"scan": True},
    "scanned and rematerialised": {"scan": True, "remat": True},
}
Answers = tuple[np.ndarray, Arrays]  # the output, and the gradients by hub name


def skip_without_cudnn(attention: str) -> None:
    device = jax.devices()[0]
    if attention == "cudnn" and not has_cudnn(device):
        pytest.skip(f"cuDNN's attention needs an NVIDIA GPU, and JAX has {device.device_kind}")


def model_of(config: ViTConfig, attention: str) -> vit_torch.ViT:
    """float64, with the same weights for each attention."""
    model = vit_torch.ViT(config, attention=attention).double()
    randomise(model, seed=2)
    return model


def given(config: ViTConfig, batch: int, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    """(images, cotangent of the output), which dtype holds exactly."""
    cotangent = np.random.default_rng(1).standard_normal((batch, config.num_classes))
    return held_exactly(images_for(config, batch), dtype), held_exactly(cotangent, dtype)


PATHS = [(config, attention, layers) for config in CONFIGS for attention in ("explicit", "fused") for layers in LAYERS]
QUICK = [
    ("plain", "explicit", "unrolled"),
    ("plain", "fused", "scanned and rematerialised"),
    ("rotary, q and k norms", "fused", "unrolled"),
]
ROUNDED = [(attention, layers) for attention in ("explicit", "fused", "cudnn") for layers in LAYERS]


@pytest.fixture(scope="module", params=CONFIGS)
def explicit(request: pytest.FixtureRequest) -> tuple[ViTConfig, Answers]:
    """The answers of PyTorch's explicit attention."""
    config = CONFIGS[request.param]
    return config, answers_torch(model_of(config, "explicit"), *given(config, 2))


def check_equal(ours: Answers, theirs: Answers) -> None:
    """float64: the output and every gradient."""
    assert gap(ours[0], theirs[0]) < FORWARD
    found = leaf_gaps(ours[1], theirs[1])
    assert max(found.values()) < GRADIENT, worst(found)


@pytest.mark.parametrize("kernel", SDPA.values(), ids=SDPA)
def test_torchs_kernels_are_the_explicit_attention(explicit: tuple[ViTConfig, Answers], kernel: Callable):
    config, answers = explicit
    with kernel():
        check_equal(answers_torch(model_of(config, "fused"), *given(config, 2)), answers)


@pytest.mark.parametrize(("explicit", "attention", "layers"), quick(PATHS, QUICK), indirect=["explicit"])
def test_in_float64_every_path_is_the_explicit_attention(
    explicit: tuple[ViTConfig, Answers], attention: str, layers: str
):
    config, answers = explicit
    flax = to_flax(model_of(config, attention), param_dtype=jnp.float64, attention=attention, **LAYERS[layers])
    check_equal(answers_flax(flax, *given(config, 2)), answers)


Noise = tuple[dict[str, float], dict[str, float]]  # of the output, of the gradients by kind


def noise_of(found: Answers, exact: Answers) -> Noise:
    return {"output": rms(found[0] - exact[0])}, noise_by_kind(found[1], exact[1])


@pytest.fixture(scope="module")
def rounded() -> tuple[vit_torch.ViT, Answers, Noise]:
    """(a bfloat16 model, float64's answers with its weights, and how far from them torch's own kernel is)."""
    config = DEEP.replace(depth=4)
    exact, model = in_dtype(config, "bfloat16")
    answers = answers_torch(exact, *given(config, 16, "bfloat16"))
    return model, answers, noise_of(answers_torch(model, *given(config, 16, "bfloat16")), answers)


@pytest.mark.parametrize(("attention", "layers"), quick(ROUNDED, [("fused", "unrolled"), ("cudnn", "scanned")]))
def test_in_bfloat16_every_path_is_as_near_to_float64_as_torchs_kernel(
    rounded: tuple[vit_torch.ViT, Answers, Noise], attention: str, layers: str
):
    skip_without_cudnn(attention)
    model, exact, torchs = rounded
    flax = to_flax(model, attention=attention, **LAYERS[layers])
    found = noise_of(answers_flax(flax, *given(model.config, 16, "bfloat16")), exact)
    for ours, theirs in zip(found, torchs, strict=True):
        check_ratios(ours, theirs)


# The attention alone, where no other layer's noise hides its own.
QKV = tuple(np.random.default_rng(0).standard_normal((3, 4, 50, 4, 24)))  # 50 tokens, no power of two
OUT = np.random.default_rng(1).standard_normal((4, 50, 4, 24))  # the cotangent


def explicit_in_torch(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return vit_torch.attention.weighted_sum(vit_torch.attention.attention_weights(q, k), v)


def explicit_in_flax(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    return vit_flax.attention.weighted_sum(vit_flax.attention.attention_weights(q, k), v)


def sharpened(sharpness: float) -> tuple[np.ndarray, ...]:
    """Queries, keys and values; the larger the first two, the fewer tokens a query attends to, as trained ones do."""
    q, k, v = QKV
    return tuple(held_exactly(x, "bfloat16") for x in (sharpness * q, sharpness * k, v))


def alone_in_torch(attention: Callable[..., torch.Tensor], dtype: str, sharpness: float = 1.0) -> Arrays:
    """The output, and the gradients of queries, keys and values, in float64."""
    inputs = [torch.tensor(x).to(getattr(torch, dtype)).requires_grad_() for x in sharpened(sharpness)]
    output = attention(*inputs)
    grads = torch.autograd.grad(output, inputs, torch.tensor(held_exactly(OUT, "bfloat16")).to(output.dtype))
    return {name: x.detach().double().numpy() for name, x in zip("oqkv", (output, *grads), strict=True)}


def alone_in_flax(attention: Callable[..., jax.Array], dtype: str, sharpness: float = 1.0) -> Arrays:
    @partial(jax.jit, compiler_options=None if dtype == "float64" else AS_USERS)
    def both(inputs: list[jax.Array], cotangent: jax.Array) -> tuple[jax.Array, ...]:
        output, back = jax.vjp(attention, *inputs)
        return output, *back(cotangent)

    inputs = [jnp.asarray(x, dtype) for x in sharpened(sharpness)]
    found = both(inputs, jnp.asarray(held_exactly(OUT, "bfloat16"), dtype))
    return {name: np.asarray(x, np.float64) for name, x in zip("oqkv", found, strict=True)}


def implementations(attention: str) -> Callable[..., jax.Array]:
    beside = {"explicit": explicit_in_flax, "jax.nn": partial(jax.nn.dot_product_attention, implementation="xla")}
    return (beside | vit_flax.attention.FUSED)[attention]


def check_alone(attention: str, sharpness: float = 1.0) -> None:
    """bfloat16: each tensor's error beside that of torch's kernel."""
    exact = alone_in_torch(explicit_in_torch, "float64", sharpness)
    ours = alone_in_flax(implementations(attention), "bfloat16", sharpness)
    theirs = alone_in_torch(vit_torch.attention.fused_attention, "bfloat16", sharpness)
    check_ratios(noise_by_kind(ours, exact), noise_by_kind(theirs, exact))


def test_alone_each_is_the_explicit_attention_in_float64():
    exact = alone_in_torch(explicit_in_torch, "float64")
    for found in (
        alone_in_torch(vit_torch.attention.fused_attention, "float64"),
        alone_in_flax(implementations("explicit"), "float64"),
        alone_in_flax(implementations("fused"), "float64"),
    ):
        check_equal((found["o"], found), (exact["o"], exact))


@pytest.mark.parametrize("sharpness", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("attention", ["explicit", "fused", "jax.nn", "cudnn"])
def test_alone_each_is_as_near_to_float64_as_torchs_kernel(attention: str, sharpness: float):
    skip_without_cudnn(attention)
    check_alone(attention, sharpness)


def narrow(q: jax.Array, k: jax.Array) -> jax.Array:
    return jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k) * q.shape[-1] ** -0.5, axis=-1)


def scaled_narrow(q: jax.Array, k: jax.Array) -> jax.Array:
    logits = jnp.einsum("bthd,bshd->bhts", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
    return jax.nn.softmax(logits, axis=-1).astype(q.dtype)


@pytest.mark.parametrize(("weights", "sharpness"), [(narrow, 1.0), (scaled_narrow, 3.0)])
def test_a_softmax_or_a_scale_in_bfloat16_is_seen(monkeypatch: pytest.MonkeyPatch, weights: Any, sharpness: float):
    monkeypatch.setattr(vit_flax.attention, "attention_weights", weights)
    with pytest.raises(AssertionError, match="times PyTorch's error"):
        check_alone("fused", sharpness)


def test_layers_in_another_order_are_seen(monkeypatch: pytest.MonkeyPatch):
    run_blocks = vit_flax.vit.run_blocks
    monkeypatch.setattr(vit_flax.vit, "run_blocks", lambda blocks, *of, **how: run_blocks([*blocks][::-1], *of, **how))
    answers = answers_torch(model_of(SMALL, "explicit"), *given(SMALL, 2))
    flax = to_flax(model_of(SMALL, "fused"), param_dtype=jnp.float64, scan=True)
    with pytest.raises(AssertionError):
        check_equal(answers_flax(flax, *given(SMALL, 2)), answers)
