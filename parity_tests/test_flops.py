"""The operations that MFU counts are those of the model's own matrix products, and peaks are looked up by device."""

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from parity_tests.compare import gap
from parity_tests.tolerances import EXACT
from train.flops import forward_flops, peak, step_flops, train_flops
from train.recipes import RECIPES
from vit_convert.config import ViTConfig
from vit_convert.presets import get_preset
from vit_flax import ViT

BASE = ViTConfig(image_size=(32, 48), patch_size=16, dim=24, depth=2, num_heads=2, mlp_dim=40, num_classes=7)
CONFIGS = {
    "class token, registers": BASE.replace(num_registers=3),
    "mean pool, SwiGLU": BASE.replace(pool="mean", class_token=False, pos_prefix="none", mlp="swiglu", act="silu"),
    "pooling by attention": BASE.replace(pool="map"),
    "class and mean, pre-logits": BASE.replace(pool="class_mean", pre_logits=11),
    "two heads": BASE.replace(dist_token=True, pool="class_dist"),
    "no head": BASE.replace(num_classes=0),
}


def products(jaxpr: Any) -> Iterator[int]:
    """Two for each multiplication of every matrix product and convolution in a program."""
    for equation in jaxpr.eqns:
        (out,) = equation.outvars[:1]
        if equation.primitive.name == "dot_general":
            ((contracted, _), _) = equation.params["dimension_numbers"]
            yield 2 * prod(out.aval.shape) * prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            yield 2 * prod(out.aval.shape) * prod(kernel) // out.aval.shape[-1]
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                yield from products(value.jaxpr)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_forward_pass_has_the_products_of_the_models_program(name: str):
    config = CONFIGS[name]
    model = ViT(config, rngs=nnx.Rngs(0))
    program = jax.make_jaxpr(model)(jnp.zeros((3, *config.image_hw, 3)))
    assert sum(products(program.jaxpr)) == 3 * forward_flops(config)


def test_published_counts():
    """4.6 and 17.5 billion multiplications for ViT-S/16 and B/16 at 224 pixels (DeiT III's README)."""
    assert forward_flops(get_preset("vit_small_patch16_224").config) == pytest.approx(2 * 4.6e9, rel=0.01)
    assert forward_flops(get_preset("vit_base_patch16_224").config) == pytest.approx(2 * 17.5e9, rel=0.01)


def test_a_step_is_three_forward_passes_and_a_linear_probes_hardly_more_than_one():
    config = replace(RECIPES["deit_s"](), batch_size=10)
    assert gap(train_flops(config), 30 * forward_flops(config.model)) < EXACT
    probe = replace(config, optimizer=replace(config.optimizer, frozen=("*", "!head.*")))
    assert 10 < train_flops(probe) / forward_flops(config.model) < 10.5
    assert step_flops(config.model, 10) == train_flops(config)


@pytest.mark.parametrize(
    ("kind", "dtype", "expected"),
    [
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312e12),
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989e12),
        ("NVIDIA L4", "bfloat16", 121e12),
        ("NVIDIA L40S", "bfloat16", 362e12),
        ("NVIDIA L40", "bfloat16", None),
        ("TPU v5 lite", "bfloat16", 197e12),
        ("TPU v5", "bfloat16", 459e12),
        ("TPU v4", "float32", None),
        ("cpu", "bfloat16", None),
        ("NVIDIA GeForce GTX 1060", "bfloat16", None),
    ],
)
def test_the_peak_is_the_devices_or_unknown(kind: str, dtype: str, expected: float | None):
    assert peak(SimpleNamespace(device_kind=kind), dtype) == expected
