"""What both models promise beside being one function: sizes, dtypes, intermediates, explicit randomness."""

import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import vit_flax
import vit_flax.dropout
import vit_torch
from parity_tests.compare import apart, gap, rms
from parity_tests.pairs import hub_arrays, images_for, make_pair, nchw, run_flax, run_torch, to_flax, to_torch
from parity_tests.selection import quick
from parity_tests.tolerances import FORWARD
from vit_convert.config import ViTConfig
from vit_convert.hub import hub_shapes
from vit_convert.intermediates import intermediate_names
from vit_convert.positions import resize_table
from vit_flax.dropout import dropout as flax_dropout
from vit_torch.dropout import dropout as torch_dropout

SMALL = ViTConfig(image_size=(12, 20), patch_size=(4, 5), dim=24, depth=2, num_heads=3, mlp_dim=40, num_classes=7)
RULES = [
    *("bicubic", "bicubic_antialias", "bicubic_offset", "bicubic_corners"),
    *("bilinear", "bilinear_antialias", "bilinear_corners"),
]


def models(**run) -> list:
    return [vit_torch.ViT(SMALL, **run), vit_flax.ViT(SMALL, rngs=nnx.Rngs(0), **run)]


def zeros(model, shape: tuple[int, ...], dtype: str = "float32"):
    """Images of this (B, H, W, C) shape, laid out as the model wants them."""
    if isinstance(model, vit_flax.ViT):
        return jnp.zeros(shape, dtype)
    return torch.zeros(shape[0], shape[3], shape[1], shape[2], dtype=getattr(torch, dtype))


def test_parameters_have_the_hubs_names_and_shapes():
    ours, flax = models()
    assert {n: tuple(x.shape) for n, x in ours.state_dict().items()} == hub_shapes(SMALL)
    assert {n: x.shape for n, x in hub_arrays(flax).items()} == hub_shapes(SMALL)


# --- sizes


@pytest.mark.parametrize("model", models(), ids=["torch", "flax"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 16, 20, 3), r"images are 16x20, the model was made for 12x20; .*dynamic_size=True"),
        ((1, 12, 20, 1), r"images must be \(B, .*3.*\), got"),
        ((12, 20, 3, 1), r"images must be"),
    ],
)
def test_images_of_another_size_are_refused_with_the_numbers(model, shape, message):
    with pytest.raises(ValueError, match=message):
        model(zeros(model, shape))


@pytest.mark.parametrize("model", models(dynamic_size=True), ids=["torch", "flax"])
def test_a_size_that_the_patches_do_not_divide_is_refused_with_the_numbers(model):
    with pytest.raises(ValueError, match=r"13x20 is not divisible by patch size 4x5 \(rest 1x0\); .*12x20"):
        model(zeros(model, (1, 13, 20, 3)))


@pytest.mark.parametrize("model", models(), ids=["torch", "flax"])
def test_images_of_integers_are_refused(model):
    with pytest.raises(ValueError, match="must be floating point"):
        model(zeros(model, (1, 12, 20, 3), "uint8"))


def check_dynamic_size(rule: str, size: tuple[int, int] = (24, 15)) -> None:
    """Another size inside the model, and the same table resized beforehand, in both frameworks."""
    config = SMALL.replace(num_registers=2, pos_prefix="all", pos_resize=rule)
    ours, flax = make_pair(config, dynamic_size=True)
    images = images_for(config, size=size)
    theirs = run_torch(ours, images)["output"]
    assert gap(run_flax(flax, images)["output"], theirs) < FORWARD
    resized = vit_torch.ViT(config.replace(image_size=size)).double()
    state = ours.state_dict()
    table, rows = state["pos_embed"][0].numpy(), config.num_pos_prefix
    patches = resize_table(table[rows:].reshape(*config.grid, -1), resized.config.grid, rule)
    table = np.concatenate([table[:rows], patches.reshape(-1, config.dim)])[None]
    resized.load_state_dict(state | {"pos_embed": torch.tensor(table)})
    assert gap(run_torch(resized, images)["output"], theirs) < FORWARD


@pytest.mark.parametrize("rule", quick(RULES, RULES[:2]))
def test_dynamic_size_is_the_table_resized(rule):
    check_dynamic_size(rule)


def test_from_pretrained_resizes_positions_for_an_image_size(tmp_path):
    ours, _ = make_pair(SMALL, dynamic_size=True)
    ours.save_pretrained(tmp_path / "checkpoint")
    images = images_for(SMALL, size=(24, 15))
    expected = run_torch(ours, images)["output"]
    bigger = vit_torch.ViT.from_pretrained(tmp_path / "checkpoint", image_size=(24, 15))
    flax = vit_flax.ViT.from_pretrained(tmp_path / "checkpoint", image_size=(24, 15))
    assert bigger.config.image_size == flax.config.image_size == (24, 15)
    assert gap(run_torch(bigger, images)["output"], expected) < FORWARD
    assert gap(run_flax(flax, images)["output"], expected) < FORWARD


def test_sincos_positions_follow_the_size():
    config = SMALL.replace(pos_embed="sincos2d")
    ours, flax = make_pair(config, dynamic_size=True)
    images = images_for(config, size=(24, 15))
    assert gap(run_flax(flax, images)["output"], run_torch(ours, images)["output"]) < FORWARD


# --- intermediates


def test_exactly_the_named_intermediates_come_back():
    ours, flax = make_pair(SMALL)
    images = images_for(SMALL, 3)
    runs: list[tuple[Any, Any]] = [(ours, nchw(images)), (flax, jnp.asarray(images))]
    for model, x in runs:
        assert not isinstance(model(x), tuple)
        output, found = model(x, ("norm", "blocks.1.attn.weights"))
        assert list(found) == ["norm", "blocks.1.attn.weights"]
        assert tuple(found["blocks.1.attn.weights"].shape) == (3, 3, 13, 13)
        assert tuple(output.shape) == (3, 7)


def test_attention_weights_are_the_softmax():
    ours, flax = make_pair(SMALL)
    name, images = "blocks.0.attn.weights", images_for(SMALL, 3)
    for found in (run_torch(ours, images, [name]), run_flax(flax, images, [name])):
        assert apart(found[name].sum(-1), np.ones(found[name].shape[:-1])) < FORWARD


def test_naming_attention_weights_selects_the_explicit_attention_for_that_block_only(monkeypatch):
    for package in (vit_torch, vit_flax):
        calls: list[int] = []
        module = sys.modules[f"{package.__name__}.attention"]
        fused = module.fused_attention
        counted = lambda *args, f=fused, c=calls: (c.append(1), f(*args))[1]  # noqa: E731
        monkeypatch.setattr(module, "fused_attention", counted)
        monkeypatch.setitem(getattr(module, "FUSED", {}), "fused", counted)
        model = models()[package is vit_flax]
        model(zeros(model, (1, 12, 20, 3)), ("blocks.0.attn.weights",))
        assert len(calls) == 1  # block 1's


@pytest.mark.parametrize("model", models(), ids=["torch", "flax"])
@pytest.mark.parametrize("names", [("blocks.2",), ("nrom",), "norm"])
def test_unknown_intermediates_are_refused_by_name(model, names):
    with pytest.raises(ValueError, match=r"blocks\.2|nrom|tuple of names"):
        model(zeros(model, (1, 12, 20, 3)), names)


def test_every_name_exists_only_where_it_means_something():
    assert "norm" not in intermediate_names(SMALL.replace(pool="mean", final_norm="pooled"))
    assert "logits" not in intermediate_names(SMALL.replace(num_classes=0))


# --- explicit randomness


def test_without_randomness_there_is_no_dropout():
    quiet, noisy = make_pair(SMALL), make_pair(SMALL, dropout=0.5, attn_dropout=0.5)
    images = images_for(SMALL, 3)
    noisy[0].train()
    assert np.array_equal(run_torch(noisy[0], images)["output"], run_torch(quiet[0], images)["output"])
    assert np.array_equal(run_flax(noisy[1], images)["output"], run_flax(quiet[1], images)["output"])


def test_the_same_randomness_gives_the_same_dropout():
    ours, flax = make_pair(SMALL, dropout=0.3, attn_dropout=0.3)
    images = images_for(SMALL, 3)

    def torchs(seed: int) -> np.ndarray:
        return ours(nchw(images), generator=torch.Generator().manual_seed(seed)).detach().numpy()

    def flaxs(seed: int) -> np.ndarray:
        return np.asarray(flax(jnp.asarray(images), key=jax.random.key(seed)))

    for run in (torchs, flaxs):
        assert np.array_equal(run(0), run(0))
        assert not np.allclose(run(0), run(1))


def test_dropout_falls_on_the_same_places_in_both(monkeypatch):
    """The masks are drawn by size: each call, in order, gets the same one in both frameworks."""
    rate, calls = 0.4, {"torch": [], "flax": []}

    def mask(shape: tuple[int, ...], side: str) -> np.ndarray:
        calls[side].append(shape)
        return np.random.default_rng(len(calls[side])).random(shape) < 1 - rate

    def bernoulli_(self: torch.Tensor, p: float, generator: torch.Generator) -> torch.Tensor:
        assert p == 1 - rate
        return self.copy_(torch.tensor(mask(tuple(self.shape), "torch")))

    def bernoulli(key: jax.Array, p: float, shape: tuple[int, ...]) -> jax.Array:
        assert p == 1 - rate
        return jnp.asarray(mask(shape, "flax"))

    monkeypatch.setattr(torch.Tensor, "bernoulli_", bernoulli_)
    monkeypatch.setattr(vit_flax.dropout.jax.random, "bernoulli", bernoulli)
    config = SMALL.replace(mlp_norm=True)
    ours, flax = make_pair(config, dropout=rate, attn_dropout=rate)
    images = images_for(config, 3)
    theirs = ours(nchw(images), generator=torch.Generator()).detach().numpy()
    assert gap(flax(jnp.asarray(images), key=jax.random.key(0)), theirs) < FORWARD
    assert calls["flax"] == calls["torch"]
    assert len(calls["torch"]) == 1 + 4 * config.depth  # embeddings; weights, proj, fc1, fc2


def test_dropout_keys_differ_between_places():
    """One key a call gives every place its own mask."""
    model = vit_flax.ViT(SMALL, rngs=nnx.Rngs(0), dropout=0.5)
    rngs, x = nnx.Rngs(jax.random.key(0)), jnp.ones((4, 64))
    assert not np.array_equal(flax_dropout(x, model.dropout, rngs), flax_dropout(x, model.dropout, rngs))


def test_dropout_keeps_the_mean():
    x = np.ones((200, 1000))
    kept = torch_dropout(torch.tensor(x), 0.3, torch.Generator().manual_seed(0)).numpy()
    assert set(np.unique(kept)) == {0.0, 1 / 0.7}
    assert abs(kept.mean() - 1) < 5e-3
    kept = np.asarray(flax_dropout(jnp.asarray(x), 0.3, nnx.Rngs(0)))
    assert set(np.unique(kept)) == {0.0, 1 / 0.7}
    assert abs(kept.mean() - 1) < 5e-3


def test_stochastic_depth_takes_the_given_masks():
    config = SMALL.replace(layer_scale=True)
    ours, flax = make_pair(config)
    images = images_for(config, 3)
    masks = np.random.default_rng(0).integers(0, 2, (2, 2, 3)) / 0.8
    theirs = ours(nchw(images), drop_path=torch.tensor(masks)).detach().numpy()
    assert gap(flax(jnp.asarray(images), drop_path=jnp.asarray(masks)), theirs) < FORWARD
    assert not np.allclose(theirs, run_torch(ours, images)["output"])


def test_a_dropped_branch_leaves_the_image_as_it_was():
    ours, flax = make_pair(SMALL)
    images, none = images_for(SMALL, 3), np.zeros((2, 2, 3))
    _, found = ours(nchw(images), ("embeddings", "blocks.1"), drop_path=torch.tensor(none))
    assert torch.equal(found["embeddings"], found["blocks.1"])
    _, found = flax(jnp.asarray(images), ("embeddings", "blocks.1"), drop_path=jnp.asarray(none))
    assert jnp.array_equal(found["embeddings"], found["blocks.1"])


@pytest.mark.parametrize("model", models(), ids=["torch", "flax"])
def test_masks_of_another_shape_are_refused(model):
    masks = zeros(model, (2, 1, 1, 3))
    with pytest.raises(ValueError, match=r"\(depth, 2, B\) = \(2, 2, 1\), got"):
        model(zeros(model, (1, 12, 20, 3)), drop_path=masks)


@pytest.mark.parametrize("make", [vit_torch.ViT, lambda *a, **k: vit_flax.ViT(*a, rngs=nnx.Rngs(0), **k)])
@pytest.mark.parametrize("run", [{"dropout": 1.0}, {"attn_dropout": -0.1}, {"attention": "flash"}])
def test_impossible_run_options_are_refused(make, run):
    with pytest.raises(ValueError, match=next(iter(run))):
        make(SMALL, **run)


# --- dtypes


def test_flax_computes_in_dtype_and_keeps_parameters_in_param_dtype():
    flax = vit_flax.ViT(SMALL, rngs=nnx.Rngs(0), dtype=jnp.bfloat16)
    output, found = flax(jnp.zeros((2, 12, 20, 3)), intermediate_names(SMALL))
    assert {x.dtype for x in (output, *found.values())} == {jnp.dtype("bfloat16")}
    assert {x.dtype for x in hub_arrays(flax).values()} == {np.dtype("float32")}


def dtypes(model: vit_flax.ViT) -> set[str]:
    return {str(x.dtype) for x in jax.tree.leaves(nnx.state(model))}


def test_loading_keeps_the_checkpoints_dtype_unless_asked_otherwise():
    ours = vit_torch.ViT(SMALL).to(torch.bfloat16)
    assert dtypes(to_flax(ours)) == {"bfloat16"}
    assert dtypes(to_flax(ours, param_dtype=jnp.float32)) == {"float32"}
    back = to_torch(to_flax(ours))
    assert {x.dtype for x in back.state_dict().values()} == {torch.bfloat16}
    assert all(torch.equal(back.state_dict()[name], x) for name, x in ours.state_dict().items())
    assert {x.dtype for x in to_torch(to_flax(ours), dtype=torch.float64).state_dict().values()} == {torch.float64}


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


FLOAT64 = """
import sys
import jax.numpy as jnp
from flax import nnx
import vit_flax
config = vit_flax.ViTConfig(image_size=8, patch_size=4, dim=8, depth=1, num_heads=2, mlp_dim=16)
for options in ({"param_dtype": jnp.float64}, {"dtype": "float64"}):
    try:
        vit_flax.ViT(config, rngs=nnx.Rngs(0), **options)
    except ValueError as error:
        print(error)
try:
    vit_flax.ViT.from_pretrained(sys.argv[1])
except ValueError as error:
    print(error)
print(vit_flax.ViT.from_pretrained(sys.argv[1], param_dtype=jnp.float32).head.kernel.dtype)
"""


def test_float64_without_x64_is_an_error(tmp_path):
    vit_torch.ViT(SMALL).double().save_pretrained(tmp_path / "double")
    result = run_python(FLOAT64, str(tmp_path / "double"), JAX_ENABLE_X64="0")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("float64 needs JAX's x64: set JAX_ENABLE_X64=1") == 3
    assert result.stdout.endswith("float32\n")  # what is asked for is no silent change


@pytest.mark.parametrize("dtype", ["float8", int, "int8"])
def test_a_dtype_that_no_model_computes_in_is_refused_by_flax(dtype, tmp_path):
    vit_torch.ViT(SMALL).save_pretrained(tmp_path / "checkpoint")
    for asked in ("dtype", "param_dtype"):
        with pytest.raises(ValueError, match="expected one of float16, bfloat16, float32, float64"):
            vit_flax.ViT.from_pretrained(tmp_path / "checkpoint", **{asked: dtype})
        with pytest.raises(ValueError, match="expected one of float16, bfloat16, float32, float64"):
            vit_flax.ViT(SMALL, rngs=nnx.Rngs(0), **{asked: dtype})


TREE_MODE = """
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
import vit_flax
config = vit_flax.ViTConfig(image_size=8, patch_size=4, dim=8, depth=2, num_heads=2, mlp_dim=16, num_classes=3,
                            num_registers=2, layer_scale=True, pool="mean", final_norm="pooled", qk_norm=True)
model = vit_flax.ViT(config, rngs=nnx.Rngs(0), dropout=0.1)
graph, state = nnx.split(model)
def loss(state, images, key):
    return (nnx.merge(graph, state)(images, key=key, drop_path=jnp.ones((2, 2, 2))) ** 2).sum()
grads = jax.jit(jax.grad(loss))(state, jnp.ones((2, 8, 8, 3)), jax.random.key(0))
assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))
import tempfile, pathlib
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(pathlib.Path(folder) / "a")
    again = vit_flax.ViT.from_pretrained(pathlib.Path(folder) / "a")
    assert jnp.array_equal(model(jnp.ones((2, 8, 8, 3))), again(jnp.ones((2, 8, 8, 3))))
print("same")
"""


@pytest.mark.parametrize("mode", [pytest.param("true", marks=pytest.mark.slow), "false"])  # true: of every other test
@pytest.mark.slow
def test_the_model_works_in_both_nnx_graph_modes(mode):
    result = run_python(TREE_MODE, NNX_GRAPH_MODE=mode, NNX_GRAPH_UPDATES=mode)
    assert result.stdout == "same\n", result.stderr


def test_no_random_state_sits_in_the_model():
    flax = vit_flax.ViT(SMALL, rngs=nnx.Rngs(0), dropout=0.1, attn_dropout=0.1)
    flax(jnp.zeros((1, 12, 20, 3)), key=jax.random.key(0))
    assert not jax.tree.leaves(nnx.state(flax, nnx.RngState))
    assert len(jax.tree.leaves(nnx.state(flax))) == len(hub_shapes(SMALL))


@pytest.mark.slow
def test_the_batch_may_be_empty_or_symbolic():
    """An exported program takes any batch: nothing in the model asks for its number."""
    from jax import export

    flax = vit_flax.ViT(SMALL, rngs=nnx.Rngs(0))
    assert flax(jnp.zeros((0, 12, 20, 3))).shape == (0, 7)
    (batch,) = export.symbolic_shape("b")
    exported = export.export(jax.jit(flax.__call__))(jax.ShapeDtypeStruct((batch, 12, 20, 3), jnp.float32))
    assert exported.call(jnp.zeros((4, 12, 20, 3), jnp.float32)).shape == (4, 7)


@pytest.mark.slow
def test_blocks_go_through_rematerialisation():
    """jax.checkpoint needs a block without side effects: what it keeps, it returns."""
    _, flax = make_pair(SMALL)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 13, 24)))
    plain, _ = flax.blocks[0](x)
    again, weights = jax.checkpoint(lambda y: flax.blocks[0](y, return_weights=True))(x)
    assert gap(again, plain) < FORWARD
    assert weights.shape == (2, 3, 13, 13)


def test_a_file_of_several_dtypes_is_one_function_in_both(tmp_path):
    from vit_convert.checkpoint import open_checkpoint, save_checkpoint

    vit_torch.ViT(SMALL).save_pretrained(tmp_path / "one")
    mixed = [
        (name, x.astype(np.float16) if x.ndim > 1 else x)
        for name, x in open_checkpoint(tmp_path / "one").tensors("native")
    ]
    save_checkpoint(tmp_path / "mixed", SMALL, mixed)
    images = images_for(SMALL, 3)
    ours, flax = vit_torch.ViT.from_pretrained(tmp_path / "mixed"), vit_flax.ViT.from_pretrained(tmp_path / "mixed")
    assert {x.dtype for x in ours.state_dict().values()} == {torch.float32}
    assert dtypes(flax) == {"float32"}
    exact = vit_torch.ViT.from_pretrained(tmp_path / "mixed", dtype=torch.float64)
    truth = run_torch(exact, images)["output"]
    noise = rms(run_torch(ours, images)["output"] - truth)
    assert rms(run_flax(flax, images)["output"] - truth) < 3 * noise  # of a few numbers only: a wide scatter


def test_a_loaded_model_does_not_change_with_its_file(tmp_path):
    vit_torch.ViT(SMALL).save_pretrained(tmp_path / "a")
    ours, flax = vit_torch.ViT.from_pretrained(tmp_path / "a"), vit_flax.ViT.from_pretrained(tmp_path / "a")
    before = [x.clone() for x in ours.state_dict().values()], [np.array(x) for x in hub_arrays(flax).values()]
    weights = tmp_path / "a" / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-400, os.SEEK_END)
        file.write(bytes(400))
    assert all(torch.equal(x, y) for x, y in zip(before[0], ours.state_dict().values(), strict=True))
    assert all(np.array_equal(x, y) for x, y in zip(before[1], hub_arrays(flax).values(), strict=True))
