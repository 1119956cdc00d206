"""Initial values have one distribution in both frameworks, group by group: timm's, and that of JAX's initialisers."""

import re
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import timm
import torch
from flax import nnx
from scipy import stats
from timm.layers.mlp import SwiGLUPacked
from torch import Tensor

import vit_flax
import vit_flax.init
import vit_torch
import vit_torch.init
from parity_tests.distributions import Samples, check_same
from parity_tests.pairs import hub_arrays
from parity_tests.selection import quick
from train.config import TrainConfig
from train.model import make_model
from train.recipes import RECIPES
from train.step import split_model
from vit_convert.config import ViTConfig
from vit_convert.layouts.native import hub_name
from vit_convert.roles import role
from vit_torch.training.loop import start
from vit_torch.training.loop.settings import checked, flat

DRAWS = 32  # models: a token of 48 values alone says little about its distribution
DIM, PATCH = 48, 8
SIZES: dict[str, Any] = dict(image_size=32, patch_size=PATCH, dim=DIM, depth=2, num_heads=4, mlp_dim=96, num_classes=30)
MAP = "attention pooling, swiglu, norm after pooling"
# Every tensor that a config can ask for.
CONFIGS = {
    "two heads, registers, inner norms, biases of q and v": ViTConfig(
        **SIZES, dist_token=True, num_registers=6, pos_prefix="all", qkv_bias="qv", pool="class_dist", patch_norm=True,
        pre_norm=True, qk_norm=True, attn_norm=True, mlp_norm=True, layer_scale=True,
    ),
    MAP: ViTConfig(
        **SIZES, class_token=False, pool="map", final_norm="pooled", pre_logits=24, mlp="swiglu"
    ),
}  # fmt: skip


def pooled(draws: list[dict[str, np.ndarray]]) -> Samples:
    """By group: all the values of a parameter, its blocks and its draws together."""
    groups: dict[str, list[np.ndarray]] = {}
    for draw in draws:
        for name, x in draw.items():
            groups.setdefault(re.sub(r"[.][0-9]+[.]", ".", name), []).append(x.ravel())
    return {group: np.concatenate(xs) for group, xs in groups.items()}


def torch_values(config: ViTConfig) -> Samples:
    models = [vit_torch.ViT(config, generator=torch.Generator().manual_seed(seed)) for seed in range(DRAWS)]
    return pooled([{name: x.numpy() for name, x in model.state_dict().items()} for model in models])


def flax_values(config: ViTConfig) -> Samples:
    def draw(key: jax.Array) -> dict[str, jax.Array]:
        return split_model(vit_flax.ViT(config, rngs=nnx.Rngs(key)))[1]

    drawn = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), DRAWS))
    return pooled([{hub_name(path): np.asarray(x) for path, x in drawn.items()}])


@pytest.fixture(scope="module", params=CONFIGS)
def both(request: pytest.FixtureRequest) -> tuple[Samples, Samples]:
    """(PyTorch's, Flax's) of one config."""
    config = CONFIGS[request.param]
    return torch_values(config), flax_values(config)


def test_both_frameworks_have_one_distribution(both: tuple[Samples, Samples]):
    ours, flax = both
    assert sum(np.ptp(x) > 0 for x in ours.values()) >= 10
    check_same(ours, flax)


# timm's classes and options, and the same as a config.
TIMM_SIZES = dict(img_size=32, patch_size=PATCH, embed_dim=DIM, depth=2, num_heads=4, mlp_ratio=2, num_classes=30)
VIT = timm.models.vision_transformer.VisionTransformer
TIMM: dict[str, tuple[Callable[..., torch.nn.Module], dict[str, Any], dict[str, Any]]] = {
    "registers, layer scale, q and k norms": (
        VIT,
        dict(reg_tokens=6, init_values=1e-5, qk_norm=True),
        dict(num_registers=6, pos_prefix="all", layer_scale=True, qk_norm=True),
    ),
    "attention pooling": (VIT, dict(global_pool="map", class_token=False), dict(pool="map", class_token=False)),
    "norm after pooling, no biases": (
        VIT,
        dict(global_pool="avg", qkv_bias=False, proj_bias=False),
        dict(pool="mean", final_norm="pooled", qkv_bias="none", proj_bias=False, mlp_bias=False),
    ),
    "distilled": (timm.models.deit.VisionTransformerDistilled, {}, dict(dist_token=True, pool="class_dist")),
}


def timm_values(make: Callable[..., torch.nn.Module], options: dict[str, Any]) -> Samples:
    """By hub name: timm keeps the keys and values of attention pooling together."""
    torch.manual_seed(0)
    draws = [make(**TIMM_SIZES, **options).state_dict() for _ in range(DRAWS)]
    for state in draws:
        for leaf in ("weight", "bias"):
            if (kv := state.pop(f"attn_pool.kv.{leaf}", None)) is not None:
                state[f"attn_pool.k.{leaf}"], state[f"attn_pool.v.{leaf}"] = kv.chunk(2)
    return pooled([{name: x.numpy() for name, x in state.items()} for state in draws])


@pytest.mark.parametrize(("make", "options", "fields"), TIMM.values(), ids=TIMM)
def test_both_have_timms_distributions(make: Any, options: dict[str, Any], fields: dict[str, Any]):
    """Of its modes, the one that it begins with: weight_init=''."""
    theirs, config = timm_values(make, options), ViTConfig(**SIZES, **fields)
    check_same(torch_values(config), theirs)
    check_same(flax_values(config), theirs)


@pytest.mark.parametrize("mode", ["jax", "jax_nlhb", "moco"])
@pytest.mark.slow
def test_timms_other_modes_are_other_distributions(mode: str):
    with pytest.raises(AssertionError, match="differ"):
        check_same(torch_values(ViTConfig(**SIZES)), timm_values(VIT, dict(weight_init=mode)))


def test_of_swiglu_the_value_half_alone_differs_from_timms():
    """timm starts its weights near zero and its biases at one; we, as DINOv2, as those of any linear layer."""
    theirs = timm_values(VIT, dict(mlp_layer=SwiGLUPacked))
    ours = torch_values(ViTConfig(**SIZES, mlp="swiglu").replace(mlp_dim=DIM))
    fc1 = {name: (ours[name], theirs[name]) for name in ours if ".fc1." in name}
    check_same({n: x for n, x in ours.items() if n not in fc1}, {n: x for n, x in theirs.items() if n not in fc1})
    halves = {name: [x.reshape(2 * DRAWS, 2, -1) for x in pair] for name, pair in fc1.items()}
    gate = [{name: pair[i][:, 0].ravel() for name, pair in halves.items()} for i in (0, 1)]
    check_same(*gate)
    assert np.unique(halves["blocks.mlp.fc1.bias"][1][:, 1]).tolist() == [1]
    assert halves["blocks.mlp.fc1.weight"][1][:, 1].std() == pytest.approx(1e-6, rel=0.05)


def symmetric(bound: float) -> Callable[..., jax.Array]:
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


# What init.py's table says of each group, as JAX documents its initialisers: the first pattern that fits.
# truncated_normal, unlike variance_scaling of that kind, has no correction of its standard deviation, as trunc_normal_.
OF = jax.nn.initializers
DOCUMENTED: dict[str, Callable[..., jax.Array]] = {
    "cls_token": OF.normal(1e-6),
    "reg_token": OF.normal(1e-6),
    "attn_pool.latent": OF.truncated_normal(DIM**-0.5),
    "patch_embed.proj.weight": OF.variance_scaling(1 / 3, "fan_in", "uniform"),
    "patch_embed.proj.bias": symmetric((3 * PATCH**2) ** -0.5),
    "*norm*.weight": OF.ones,
    "*norm*.bias": OF.zeros,
    "*.gamma": OF.constant(1e-5),
    "*bias": OF.zeros,
    "*": OF.truncated_normal(0.02, lower=-2 / 0.02, upper=2 / 0.02),  # timm cuts at +-2
}


def documented() -> dict[str, np.ndarray]:
    """Samples of each pattern's initialiser, as many patch kernels as have 200,000 values."""
    shape, keys = (PATCH, PATCH, 3, DIM), jax.random.split(jax.random.key(1), 22)
    return {
        pattern: np.asarray(jax.vmap(lambda key, make=make: make(key, shape, jnp.float32))(keys)).ravel()
        for pattern, make in DOCUMENTED.items()
    }


def test_both_have_the_distributions_of_jaxs_initialisers(both: tuple[Samples, Samples]):
    samples = documented()
    theirs = {name: samples[next(p for p in DOCUMENTED if fnmatch(name, p))] for name in both[0]}
    for ours in both:
        check_same(ours, theirs)


# Wrong values, drawn in place of the right ones. The last two of kernels have the right mean and variance.
Plant = Callable[[str, Tensor, torch.Generator | None], object]
CORRECTION = 0.87962566103423978  # the standard deviation of a normal that is cut at two


def kernels(draw: Callable[[Tensor, torch.Generator | None], object]) -> Plant:
    return lambda name, x, generator: role(name) == "kernel" and "patch" not in name and draw(x, generator)


PLANTED: dict[str, Plant] = {
    "a corrected deviation": lambda name, x, _: name == "attn_pool.latent" and x.div_(CORRECTION),
    "a patch kernel of LeCun's": lambda name, x, generator: (
        name == "patch_embed.proj.weight" and x.normal_(0, (3 * PATCH**2) ** -0.5, generator=generator)
    ),
    "biases that aren't zero": lambda name, x, generator: (
        role(name) == "bias" and x.normal_(0, 1e-6, generator=generator)
    ),
    "a layer norm at zero": lambda name, x, _: name.endswith("norm1.weight") and x.zero_(),
    "positions like the class token's": lambda name, x, _: name == "pos_embed" and x.mul_(5e-5),
    "kernels cut at two deviations": kernels(
        lambda x, generator: torch.nn.init.trunc_normal_(x, 0, 0.02, -0.04, 0.04, generator=generator)
    ),
    "kernels cut and corrected": kernels(
        lambda x, generator: torch.nn.init.trunc_normal_(x, 0, 1, -2, 2, generator=generator).mul_(0.02 / CORRECTION)
    ),
    "kernels from a uniform of the same variance": kernels(
        lambda x, generator: x.uniform_(-0.02 * 3**0.5, 0.02 * 3**0.5, generator=generator)
    ),
}


@pytest.fixture(scope="module")
def flax_of_map() -> Samples:
    return flax_values(CONFIGS[MAP])


@pytest.mark.parametrize("plant", quick(PLANTED, ["a corrected deviation", "kernels cut at two deviations"]))
def test_another_distribution_is_seen(plant: Plant, flax_of_map: Samples, monkeypatch: pytest.MonkeyPatch):
    right = vit_torch.init.init_parameter

    def wrong(name: str, x: Tensor, fan_in: int, generator: torch.Generator | None) -> None:
        right(name, x, fan_in, generator)
        plant(name, x, generator)

    monkeypatch.setattr(vit_torch.init, "init_parameter", wrong)
    with pytest.raises(AssertionError, match="differ"):
        check_same(torch_values(CONFIGS[MAP]), flax_of_map)


def test_the_pooling_query_is_a_truncated_normal():
    """timm layers/weight_init.py, trunc_normal_tf_: cut at two standard deviations, then scaled."""
    x = torch.zeros(1, 1, 20_000)
    vit_torch.init.init_parameter("attn_pool.latent", x, 1, torch.Generator().manual_seed(0))
    normal = jax.random.normal(jax.random.key(0), (1, 1, 20_000))
    y = vit_flax.init.init_parameter("attn_pool.latent", normal, 1)
    for drawn in (x.numpy().ravel(), np.asarray(y).ravel()):
        expected = stats.truncnorm(-2, 2, scale=20_000**-0.5)
        assert stats.kstest(drawn, expected.cdf)[1] > 1e-3


def one(seed: int) -> dict[str, np.ndarray]:
    config = CONFIGS[MAP]
    return hub_arrays(vit_flax.ViT(config, rngs=nnx.Rngs(seed)))


@pytest.mark.slow
def test_another_seed_gives_other_values():
    config = CONFIGS[MAP]
    first, other, again = (
        vit_torch.ViT(config, generator=torch.Generator().manual_seed(seed)).state_dict()["pos_embed"]
        for seed in (0, 1, 0)
    )
    assert not torch.equal(first, other)
    assert torch.equal(first, again)
    assert not np.array_equal(one(0)["pos_embed"], one(1)["pos_embed"])
    assert np.array_equal(one(1)["pos_embed"], one(1)["pos_embed"])


def test_no_two_parameters_are_drawn_alike():
    drawn = one(0)
    assert not np.array_equal(drawn["attn_pool.q.weight"], drawn["attn_pool.k.weight"])


def with_scales(config: TrainConfig) -> TrainConfig:
    """What the recipes leave alone: layer scales, and a head at zero with a bias, behind pre_logits."""
    begun = replace(config.start, layer_scale=1e-4, zero_head=True, head_bias=-2.5)
    return replace(config, model=config.model.replace(layer_scale=True, pre_logits=48), start=begun)


STARTS: dict[str, TrainConfig] = {
    "digits": RECIPES["digits"](),
    "digits, layer scales, zero head, pre_logits": with_scales(RECIPES["digits"]()),
    "fashion_mnist": RECIPES["fashion_mnist"](),
}
RUNS = 16  # a recipe's model is larger than those above


def parts(name: str, x: np.ndarray, mimetic: bool) -> dict[str, np.ndarray]:
    """The values of one draw, in torch's order of axes, by what has a distribution of its own: queries, keys and values
    apart; of mimetic positions, which are one pattern times a number, the spread alone."""
    if name == "pos_embed" and mimetic:
        return {"spread of pos_embed": np.sqrt(np.square(x, dtype=np.float64).mean(keepdims=True))}
    if name.endswith("attn.qkv.weight"):
        return {f"{name}.{part}": values for part, values in zip("qkv", np.split(x, 3), strict=True)}
    return {name: x}


def begun(draws: list[dict[str, np.ndarray]], config: TrainConfig) -> Samples:
    found = ([parts(name, x, config.start.mimetic) for name, x in draw.items()] for draw in draws)
    return pooled([{name: x for of in draw for name, x in of.items()} for draw in found])


def begun_in_torch(config: TrainConfig) -> Samples:
    settings = checked(flat(config.to_dict()), "the recipe")
    classes = tuple(map(str, range(config.model.num_classes)))
    models = [start.start_model(settings | {"seed": seed}, classes) for seed in range(RUNS)]
    return begun([{name: x.detach().numpy() for name, x in model.named_parameters()} for model in models], config)


def begun_in_flax(config: TrainConfig) -> Samples:
    """Kernels of linear layers are (in, out) there."""
    values, draws = jax.jit(make_model(config)[1]), []
    for key in jax.random.split(jax.random.key(0), RUNS):
        drawn = {hub_name(path): np.asarray(x) for path, x in values(key).items()}
        draws.append({name: x.T if x.ndim == 2 else x for name, x in drawn.items()})
    return begun(draws, config)


@pytest.mark.parametrize("config", quick(STARTS, []))
def test_a_run_starts_from_one_distribution_in_both_frameworks(config: TrainConfig):
    check_same(begun_in_torch(config), begun_in_flax(config))


# What one framework would do otherwise than the config says.
OTHER_STARTS: dict[str, dict[str, Any]] = {
    "kernels as wide as those of large models": {"start.fan_in_kernels": False},
    "positions a twentieth wider": {"start.pos_embed_std": 0.105},
    "a head that isn't zero": {"start.zero_head": False},
    "layer scales of the model's own": {"start.layer_scale": None},
    "attention drawn as in a paper": {"start.mimetic": True},
}


@pytest.fixture(scope="module")
def scaled_in_flax() -> Samples:
    return begun_in_flax(STARTS["digits, layer scales, zero head, pre_logits"])


@pytest.mark.parametrize("wrong", quick(OTHER_STARTS, []))
def test_another_start_is_seen(wrong: dict[str, Any], scaled_in_flax: Samples, monkeypatch: pytest.MonkeyPatch):
    right = start.start_model
    monkeypatch.setattr(start, "start_model", lambda settings, classes: right(settings | wrong, classes))
    with pytest.raises(AssertionError, match="differ"):
        check_same(begun_in_torch(STARTS["digits, layer scales, zero head, pre_logits"]), scaled_in_flax)
