"""The model of a run computes as its config says: each setting changes it into vit_flax's own with that option."""

import re
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from parity_tests.datasets import tiny_config
from train.model import make_model
from train.recipes import RECIPES
from train.step import split_model
from vit_flax import ViT

PLAIN = tiny_config("digits", size=8, channels=1, classes=10)
PLAIN = replace(PLAIN, model=PLAIN.model.replace(depth=2))
SETTINGS: list[dict[str, Any]] = [
    *({"dtype": "bfloat16"}, {"dtype": "float64"}, {"remat": True}, {"scan": True}),
    *({"dropout": 0.25}, {"attn_dropout": 0.25}),
    {"dtype": "bfloat16", "dropout": 0.1, "attn_dropout": 0.2, "remat": True, "scan": True},
]


def operations(merge: Any, params: Any) -> str:
    """The computation of a training step's logits, operation by operation."""
    images = jnp.zeros((2, 8, 8, 1))
    rest = dict(drop_path=jnp.ones((2, 2, 2)), key=jax.random.key(0))
    found = jax.make_jaxpr(lambda params: merge(params)(images, **rest))(params)
    return re.sub(r"0x[0-9a-f]+", "", str(found))


def of_run(changes: dict[str, Any]) -> str:
    merge, values = make_model(replace(PLAIN, **changes))
    return operations(merge, jax.eval_shape(values, jax.random.key(0)))


@pytest.mark.parametrize("changes", SETTINGS, ids=lambda changes: " ".join(changes))
def test_a_setting_of_the_run_is_the_models_option(changes: dict[str, Any]):
    options: dict[str, Any] = {"dtype": "float32"} | changes
    merge, params = split_model(ViT(PLAIN.model, rngs=nnx.Rngs(0), **options))
    found = of_run(changes)
    assert found == operations(merge, params)
    for name in changes:
        assert found != of_run({other: value for other, value in changes.items() if other != name}), name


def test_attention_is_by_the_kernel_that_the_run_asks_for():
    """No CPU has cuDNN's; the others are one computation in XLA."""
    for attention in ("fused", "explicit", "cudnn"):
        merge, values = make_model(replace(PLAIN, dtype="bfloat16", attention=attention))
        blocks = merge(jax.eval_shape(values, jax.random.key(0))).blocks
        assert [block.attn.attention for block in blocks] == [attention, attention]


@pytest.mark.parametrize("recipe", ["deit_ti", "deit3_s", "augreg_s32", "simple_vit_s16_i1k"])
def test_a_recipe_in_bfloat16_multiplies_in_bfloat16(recipe: str):
    """Every product of its blocks, in the layers that it scans too."""
    config = RECIPES[recipe]()
    assert config.dtype == "bfloat16"
    merge, values = make_model(config)
    images = jax.ShapeDtypeStruct((1, *config.model.image_hw, 3), jnp.float32)
    params = jax.eval_shape(values, jax.random.key(0))
    with jax.enable_x64(False):
        computed = str(jax.make_jaxpr(lambda params, images: merge(params)(images))(params, images))
    products = re.findall(r":(\w+)\[[^\]]*\] = dot_general", computed)
    assert len(products) > 4
    assert products.count("bf16") > len(products) / 2, products
