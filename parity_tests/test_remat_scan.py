"""Rematerialised, scanned or both, a model is the same function with the same gradients and the same checkpoint."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import vit_flax.attention
from parity_tests.compare import gap, leaf_gaps, worst
from parity_tests.selection import quick
from parity_tests.tolerances import FORWARD, GRADIENT, ROPE
from train.step import Params, split_model
from vit_convert.config import ViTConfig
from vit_flax import ViT

BASE = ViTConfig(image_size=(8, 12), patch_size=4, dim=16, depth=3, num_heads=2, mlp_dim=24, num_classes=5)
CONFIGS = {
    "class token, registers, layer scale": BASE.replace(num_registers=2, layer_scale=True),
    "mean pool, rotary, SwiGLU, RMS": BASE.replace(
        pool="mean", class_token=False, pos_prefix="none", pos_embed="none", rope="dinov3", rope_theta=100.0,
        mlp="swiglu", act="silu", norm="rms", qk_norm=True, final_norm="pooled",
    ),
    "pooling by attention, biases of q and v, one block": BASE.replace(pool="map", qkv_bias="qv", depth=1),
}  # fmt: skip
WAYS: dict[str, dict[str, Any]] = {
    "remat": {"remat": True},
    "scan": {"scan": True},
    "both": {"remat": True, "scan": True},
}
IMAGES = np.random.default_rng(0).standard_normal((4, 8, 12, 3))


def make(config: ViTConfig, **run: Any) -> ViT:
    """Zeros hide nothing: all values are normal, norms about one."""
    model = ViT(config, rngs=nnx.Rngs(0), param_dtype=jnp.float64, **run)
    for i, (_, p) in enumerate(sorted(nnx.to_flat_state(nnx.state(model, nnx.Param)))):
        p.set_value(0.3 * jax.random.normal(jax.random.key(i), p.shape, jnp.float64) + (p.ndim == 1))
    return model


def answers(config: ViTConfig, **run: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """The logits, and the gradients of a sum of their squares, with stochastic depth and dropout on."""
    model = make(config, dropout=0.2, attn_dropout=0.1, **run)
    merge, _ = split_model(model)
    params = {path: x.get_value() for path, x in paths(model).items()}
    masks = jax.random.bernoulli(jax.random.key(5), 0.7, (config.depth, 2, 4)) / 0.7

    @jax.jit
    def both(params: Params) -> Any:
        def loss(params: Params) -> Any:
            logits = merge(params)(jnp.asarray(IMAGES), drop_path=masks, key=jax.random.key(7))
            return jnp.sum(logits**2), logits

        return jax.grad(loss, has_aux=True)(params)

    grads, logits = both(params)
    return logits, {path: np.asarray(g) for path, g in grads.items()}


def paths(model: ViT) -> dict[str, nnx.Param]:
    return {".".join(map(str, path)): p for path, p in nnx.to_flat_state(nnx.state(model, nnx.Param))}


QUICK = "class token, registers, layer scale"
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS if name != QUICK]


@pytest.fixture(scope="module", params=[QUICK, *OTHERS])
def unrolled(request: pytest.FixtureRequest) -> tuple[ViTConfig, Any, dict[str, np.ndarray]]:
    config = CONFIGS[request.param]
    return config, *answers(config)


@pytest.mark.parametrize("way", quick(WAYS.keys(), ["both"]))
@pytest.mark.slow
def test_the_function_and_every_gradient_are_the_unrolled_models(unrolled: Any, way: str):
    config, logits, grads = unrolled
    assert len(set(np.round(np.asarray(logits).ravel(), 6))) == logits.size  # dropout and masks differ by image
    ours, our_grads = answers(config, **WAYS[way])
    assert gap(ours, logits) < FORWARD
    found = leaf_gaps(our_grads, grads)
    assert max(found.values()) < GRADIENT, worst(found)


def jaxpr(**run: Any) -> str:
    merge, params = split_model(make(BASE.replace(depth=5), **run))
    return str(jax.make_jaxpr(jax.grad(lambda p: merge(p)(jnp.asarray(IMAGES)).sum()))(params))


@pytest.mark.slow
def test_each_does_what_it_is_for():
    """One body for all layers: an erf stands once in the program. Insides that are computed again: five parts of the
    backward pass are JAX's checkpoints."""
    plain, scan, remat = (jaxpr(**run) for run in ({}, {"scan": True}, {"remat": True}))
    checkpoint = re.compile(r"\b(remat\d*|checkpoint)\[")
    assert (plain.count(" erf "), len(checkpoint.findall(plain))) == (5, 0)
    assert (scan.count(" erf "), len(checkpoint.findall(scan))) == (1, 0)
    assert len(checkpoint.findall(remat)) == 5


def test_more_than_ten_blocks_are_scanned_in_their_order():
    """By name the eleventh comes before the third."""
    config, images = BASE.replace(depth=11), jnp.asarray(IMAGES)
    assert gap(make(config, scan=True)(images), make(config)(images)) < FORWARD


@pytest.mark.slow
def test_intermediates_are_there_whichever_way_it_is_run():
    names = ("blocks.1", "blocks.0.attn.weights")
    (_, plain), (_, scanned) = (make(BASE, scan=scan)(jnp.asarray(IMAGES), names) for scan in (False, True))
    assert all(gap(scanned[name], plain[name]) < FORWARD for name in names)


def test_cudnns_attention_is_the_same_function(monkeypatch: pytest.MonkeyPatch):
    """Its scale and its order of axes: the same call of JAX, with the implementation that a CPU has, float32 inside."""
    asked, attention = [], jax.nn.dot_product_attention

    def on_cpu(*qkv: jax.Array, implementation: str) -> jax.Array:
        asked.append(implementation)
        return attention(*qkv, implementation="xla")

    monkeypatch.setattr(jax.nn, "dot_product_attention", on_cpu)
    q, k, v = np.random.default_rng(0).standard_normal((3, 2, 6, 4, 8))
    ours, theirs = (vit_flax.attention.FUSED[name](*map(jnp.asarray, (q, k, v))) for name in ("cudnn", "fused"))
    assert gap(ours, theirs) < ROPE  # float32's rounding
    assert asked == ["cudnn"]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"dtype": jnp.float32}, "computes in bfloat16 or float16, got float32"),
        ({"dtype": jnp.bfloat16, "attn_dropout": 0.1}, "no dropout"),
    ],
)
def test_what_cudnn_doesnt_compute_is_refused(run: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ViT(BASE, rngs=nnx.Rngs(0), attention="cudnn", **run)
