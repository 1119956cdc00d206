"""Initial values: the same distribution in both frameworks, parameter by parameter, and timm's."""

from typing import Any, cast

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from scipy import stats

import vit_flax
import vit_flax.init
import vit_torch
import vit_torch.init
from parity_tests.pairs import hub_arrays
from vit_convert.config import ViTConfig

CONFIG = ViTConfig(
    image_size=64,
    patch_size=8,
    dim=64,
    depth=1,
    num_heads=4,
    mlp_dim=192,
    num_classes=100,
    num_registers=16,
    pool="map",
    pos_prefix="all",
    layer_scale=True,
    qk_norm=True,
    dist_token=True,
)
DRAWS = 6


def torch_values(seed: int) -> dict[str, np.ndarray]:
    model = vit_torch.ViT(CONFIG, generator=torch.Generator().manual_seed(seed))
    return {name: x.numpy().ravel() for name, x in model.state_dict().items()}


def flax_values(seed: int) -> dict[str, np.ndarray]:
    return {name: x.ravel() for name, x in hub_arrays(vit_flax.ViT(CONFIG, rngs=nnx.Rngs(seed))).items()}


def p_value(x: np.ndarray, y: np.ndarray) -> float:
    """Of the two-sample Kolmogorov-Smirnov test: small when two samples have different distributions."""
    _, p = cast(tuple[float, float], stats.ks_2samp(x, y))
    return p


@pytest.fixture(scope="module")
def values() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    both = ([torch_values(s) for s in range(DRAWS)], [flax_values(s) for s in range(DRAWS)])
    ours, flax = ({n: np.concatenate([d[n] for d in draws]) for n in draws[0]} for draws in both)
    return ours, flax


def test_initial_values_have_one_distribution(values):
    """Kolmogorov-Smirnov for what is random (at fixed seeds), equality for what is not."""
    ours, flax = values
    tests = [n for n, x in ours.items() if np.ptp(x)]
    assert len(tests) > 10
    for name, x in ours.items():
        if name in tests:
            assert p_value(x, flax[name]) > 1e-3 / len(tests), name
            assert np.std(flax[name]) == pytest.approx(np.std(x), rel=6 * (2 * len(x)) ** -0.5 + 0.02), name
        else:
            assert np.array_equal(x, flax[name]), name


def test_initial_values_are_timms(values):
    import timm

    ours, _ = values
    torch.manual_seed(0)
    options: dict[str, Any] = dict(
        img_size=64, patch_size=8, embed_dim=64, depth=1, num_heads=4, mlp_ratio=3, num_classes=100
    )
    options |= dict(reg_tokens=16, global_pool="map", init_values=1e-5, qk_norm=True)
    theirs = [timm.models.vision_transformer.VisionTransformer(**options).state_dict() for _ in range(DRAWS)]
    for name in set(theirs[0]) & set(ours) - {"pos_embed"}:  # without a distillation token it has other rows
        x, y = ours[name], torch.cat([t[name].ravel() for t in theirs]).numpy()
        if np.ptp(y):
            assert p_value(x, y) > 1e-5, name
        else:
            assert np.array_equal(np.unique(x), np.unique(y)), name


def test_the_pooling_query_is_a_truncated_normal():
    """timm layers/weight_init.py, trunc_normal_tf_: cut at two standard deviations, then scaled."""
    x = torch.zeros(1, 1, 20_000)
    vit_torch.init.init_parameter("attn_pool.latent", x, 1, torch.Generator().manual_seed(0))
    normal = jax.random.normal(jax.random.key(0), (1, 1, 20_000))
    y = vit_flax.init.init_parameter("attn_pool.latent", normal, 1)
    for drawn in (x.numpy().ravel(), np.asarray(y).ravel()):
        expected = stats.truncnorm(-2, 2, scale=20_000**-0.5)
        assert stats.kstest(drawn, expected.cdf)[1] > 1e-3


def test_another_seed_gives_other_values():
    assert not np.array_equal(torch_values(0)["pos_embed"], torch_values(1)["pos_embed"])
    assert not np.array_equal(flax_values(0)["pos_embed"], flax_values(1)["pos_embed"])
    assert np.array_equal(flax_values(1)["pos_embed"], flax_values(1)["pos_embed"])


def test_no_two_parameters_are_drawn_alike():
    drawn = flax_values(0)
    assert not np.array_equal(drawn["attn_pool.q.weight"], drawn["attn_pool.k.weight"])
