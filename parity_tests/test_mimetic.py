"""Mimetic initialisation, of the trainer and of the specification: the products of attention's weights are what
Trockman & Kolter 2023 make them."""

import os
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests.compare import apart
from parity_tests.pairs import to_flax
from parity_tests.tolerances import EXACT, FLOAT32_CHAIN
from train import mimetic as ours
from train.config import ConfigError
from train.model import make_model
from train.recipes import RECIPES
from train.step import Params
from vit_convert.positions import sincos2d
from vit_flax.names import parameters_by_path
from vit_torch.training import main
from vit_torch.training import mimetic as theirs
from vit_torch.training.loop.settings import checked, flat
from vit_torch.training.loop.start import start_model

DIM, HEADS = 64, 4  # of the digits' model


def start(side: str, *, mimetic: bool) -> Params:
    """The first values of the digits' model, by Flax path."""
    recipe = RECIPES["digits"]()
    config = replace(recipe, start=replace(recipe.start, mimetic=mimetic))
    if side == "train":
        return make_model(config)[1](jax.random.key(3))
    model = start_model(checked(flat(config.to_dict()), "the recipe"), tuple(map(str, range(10))))
    return {path: param.get_value() for path, param in parameters_by_path(to_flax(model)).items()}


# Blocks that nothing orders, as those of a model.
MANY = """
import jax
from train.mimetic import attention
draw = jax.jit(lambda key: [attention(jax.random.fold_in(key, block), 96, 4) for block in range(8)])
for seed in range(300):
    jax.block_until_ready(draw(jax.random.key(seed)))
"""


@pytest.mark.slow
def test_drawing_on_two_threads_comes_to_its_end():
    """jaxlib's batched decomposition waited for ever, now and then: two of them, and no thread left for their parts."""
    subprocess.run([sys.executable, "-c", MANY], env=os.environ | {"NPROC": "2"}, check=True, timeout=120)


@pytest.fixture(scope="module", params=["train", "vit_torch"])
def side(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def begun(side: str) -> Params:
    return start(side, mimetic=True)


def coefficient(product: np.ndarray) -> float:
    """How much identity there is in a product: the mean of its diagonal."""
    return float(np.diag(product).mean())


def test_values_and_projection_make_minus_the_identity_and_noise(begun: Params):
    for block in range(4):
        qkv, proj = (np.asarray(begun[f"blocks.{block}.attn.{name}.kernel"]) for name in ("qkv", "proj"))
        product = qkv[:, 2 * DIM :] @ proj
        assert coefficient(product) == pytest.approx(-0.4, abs=0.03)
        noise = product - coefficient(product) * np.eye(DIM)
        assert noise.std() == pytest.approx(0.4 * DIM**-0.5, rel=0.05)


def test_queries_and_keys_of_each_head_make_the_largest_part_of_the_identity_and_noise(begun: Params):
    """Of 0.7 Z + 0.7 I a head of width D/H keeps the D/H largest singular values, its queries and keys half each."""
    qkv = np.asarray(begun["blocks.1.attn.qkv.kernel"])
    products = []
    for head in range(HEADS):
        q, k = (qkv[:, part * DIM :][:, head * 16 : head * 16 + 16] for part in (0, 1))
        assert apart(q.T @ q, k.T @ k) < FLOAT32_CHAIN  # the same singular values, square roots
        products.append(q @ k.T)
        assert coefficient(products[-1]) > 0.2
    assert not np.allclose(products[0], products[1], atol=0.1)  # noise of its own for each head


def test_learned_positions_are_sines_and_cosines_with_the_spread_of_the_config(begun: Params):
    std, waves = RECIPES["digits"]().start.pos_embed_std, sincos2d((4, 4), DIM)
    assert std is not None
    found = np.asarray(begun["pos_embed"])[0, 1:]
    assert apart(found / found[0, DIM // 4], waves / waves[0, DIM // 4]) < FLOAT32_CHAIN
    assert np.sqrt((found**2).mean()) == pytest.approx(std, rel=0.05)


def test_a_product_has_the_same_factors_in_both_frameworks():
    """Up to the sign of a singular vector, which their product hasn't."""
    normal = np.random.default_rng(0).standard_normal((HEADS, DIM, DIM))
    wanted = theirs.near_identity(torch.tensor(normal), *theirs.QUERY_KEY)
    assert apart(ours.QUERY_KEY[0] * DIM**-0.5 * normal + ours.QUERY_KEY[1] * np.eye(DIM), wanted.numpy()) < EXACT
    assert (ours.QUERY_KEY, ours.VALUE_PROJ) == (theirs.QUERY_KEY, theirs.VALUE_PROJ)
    left, right = jax.lax.map(lambda product: ours.factors(product, DIM // HEADS), jnp.asarray(wanted.numpy()))
    left_t, right_t = theirs.factors(wanted, DIM // HEADS)
    for a, b, a_t, b_t in ((left, right, left_t, right_t), (left, left, left_t, left_t)):
        product, expected = a @ b.swapaxes(1, 2), a_t @ b_t.mT
        assert apart(np.asarray(product), expected.numpy()) < EXACT


def test_a_width_that_has_no_waves_is_refused(capsys: pytest.CaptureFixture[str]):
    recipe = RECIPES["digits"]()
    model = recipe.model.replace(dim=66, num_heads=2)
    with pytest.raises(ConfigError, match=r"mimetic needs a model.dim divisible by 4 .* got 66"):
        replace(recipe, model=model, start=replace(recipe.start, mimetic=True))
    with pytest.raises(SystemExit):
        main(["--start.mimetic", "true", "--model.dim", "66", "--model.num-heads", "2"])
    assert "start.mimetic needs a model.dim divisible by 4 for its waves, got 66" in capsys.readouterr().err


def test_all_else_begins_as_without(side: str, begun: Params):
    plain = start(side, mimetic=False)
    changed = {name for name in plain if not jnp.array_equal(plain[name], begun[name])}
    blocks = (f"blocks.{block}.attn.{kernel}.kernel" for block in range(4) for kernel in ("qkv", "proj"))
    assert changed == {"pos_embed", *blocks}
    assert jnp.array_equal(plain["pos_embed"][:, 0], begun["pos_embed"][:, 0])  # the class token's
