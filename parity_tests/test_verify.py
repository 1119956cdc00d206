"""vit-verify measures what it says: on small checkpoints its numbers are those that anyone can compute."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy
import torch

import vit_flax
import vit_torch
from parity_tests.compare import gap, leaf_gaps, noise, rms
from parity_tests.pairs import AS_USERS, grads_flax, grads_torch, held_exactly, randomise, run_flax, run_torch
from parity_tests.photographs import photograph
from parity_tests.tolerances import EXACT, FLOAT32, FORWARD, GRADIENT, NOISE_RATIO, PRODUCT_RATIO
from parity_tests.verify.asked import Asked
from parity_tests.verify.images import count_for, make_images
from parity_tests.verify.measure import (
    FEW,
    NOISE_VALUES,
    Errors,
    Exact,
    Predictions,
    Product,
    Rounded,
    all_gaps,
    by_kind,
    compare_rounded,
    leaf_gaps_or_infinite,
    margins,
    predict,
)
from parity_tests.verify.own_class import OriginalGaps
from parity_tests.verify.places import place_of, token
from parity_tests.verify.products import allowed, noisiest, products_of
from parity_tests.verify.prove import Proof, _said_of, one_is_graded, prove
from parity_tests.verify.run import OUTPUT, Run, make_batch, names_for
from parity_tests.verify.source import open_source
from parity_tests.verify.verdict import _rounded, agrees, check_all, summary
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.intermediates import intermediate_names
from vit_convert.preprocess import Preprocess

SMALL = ViTConfig(image_size=(28, 54), patch_size=(7, 9), dim=40, depth=2, num_heads=5, mlp_dim=52, num_classes=11)
OWN = Preprocess(resize=(30, 60), crop=(28, 54), mode="squash", mean=(0.4, 0.3, 0.2), std=(0.3, 0.4, 0.5))
SEED = 3


def save(path: Path, config: ViTConfig = SMALL, layout: str = "native", preprocess: Preprocess | None = OWN) -> Path:
    """A checkpoint with random weights."""
    model = vit_torch.ViT(config)
    randomise(model, seed=1)
    model.save_pretrained(path, layout=layout, preprocess=preprocess)
    return path


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("verify") / "native")


@pytest.fixture(scope="module")
def proof(native: Path) -> Proof:
    return prove(open_source(str(native)), Asked(images=8, seed=SEED))


def test_the_verdict_is_that_they_agree_in_every_dtype(proof: Proof) -> None:
    checks = check_all(proof)
    assert agrees(checks)
    promises = ["tensors", "intermediates", "gradients", "predictions"]
    expected = [(dtype, promise) for dtype in ("float64", "float32", "bfloat16") for promise in promises]
    decided = [dtype for dtype, of in proof.dtypes.items() if of.predictions and not all(of.predictions.close)]
    assert decided[:2] == ["float64", "float32"]
    expected = [(dtype, promise) for dtype, promise in expected if promise != "predictions" or dtype in decided]
    assert [(check.dtype, check.promise) for check in checks] == expected
    for check in checks:
        if check.kind == "times":
            found = proof.dtypes[check.dtype].distances
            assert isinstance(found, Rounded)
            of = {**found.layers, **found.gradients}[check.where]
            assert check.bound == allowed(noisiest(found.products, check.where), of.values)
    assert [check.bound for check in checks if check.kind == "below"] == [FORWARD, GRADIENT]
    assert all(check.measured > 0 for check in checks)


def test_the_verdict_says_what_was_measured_and_no_more(proof: Proof) -> None:
    """One function: in float64 alone. Its own class: of those that were run in it."""
    worst = {dtype: max(e.ratio for e in errors(proof, dtype)) for dtype in ("float32", "bfloat16")}
    of_32 = f"Flax's error against float64 is at most {worst['float32']:.2f} times PyTorch's in float32"
    of_both = f"{of_32} and {worst['bfloat16']:.2f} times PyTorch's in bfloat16"
    both, alone = OriginalGaps("timm X", "1", {"output": 0.0}, {"output": 0.0}), OriginalGaps("timm X", "1", {}, {})
    said = [
        (("float64", "float32", "bfloat16"), "none", f"PyTorch and Flax are one function; {of_both}"),
        (("float64",), "none", "PyTorch and Flax are one function"),
        (("float64",), both, "PyTorch, Flax and timm X are one function"),
        (("float32",), "none", of_32),
        (
            ("float32", "bfloat16"),
            alone,
            f"PyTorch and timm X are one function in float64, in which Flax was not run; {of_both}",
        ),
    ]
    for dtypes, original, words in said:
        part = replace(proof, dtypes={name: proof.dtypes[name] for name in dtypes}, original=original)
        assert summary(part, ()) == f"On this checkpoint {words}."


def errors(proof: Proof, dtype: str) -> list[Errors]:
    found = proof.dtypes[dtype].distances
    assert isinstance(found, Rounded)
    return [*found.layers.values(), *found.gradients.values()]


def test_a_prediction_is_asked_for_where_rounding_may_not_decide_it(proof: Proof) -> None:
    """By PyTorch's error and what Flax's may be: Flax's own, were it large, would excuse itself."""
    exact = np.array([[3.0, 0, 2], [3, 0, 2.5], [0, 3, 2]])
    rounded, other = exact + 0.125 * np.array([1, 0, 0]), exact.copy()
    other[0] = [0, 3, 2]
    truth, theirs, ours = (Run({OUTPUT: logits}, {}) for logits in (exact, rounded, other))
    found = predict(theirs, ours, truth, times=3)
    assert found == Predictions((0, 0, 1), (1, 0, 1), (0, 0, 1), (False, True, False))  # twice 3 * 0.125 lies between
    assert predict(theirs, ours, truth, times=1.5).close == (False, False, False)
    assert predict(theirs, ours, truth, times=5).close == (True, True, True)
    assert predict(theirs, ours, theirs).close == (False, False, False)  # float64: all are asked for
    assert found.same == 1
    measured = replace(proof.dtypes["float32"], images=3, predictions=found)
    check = check_all(replace(proof, dtypes={"float32": measured}))[-1]
    assert (check.promise, check.measured, check.bound, check.agrees) == ("predictions", 1, 2, False)
    assert check.parting == "1 of 2 images are put into different classes (float32)."
    undecided = replace(measured, predictions=replace(found, close=(True,) * 3))
    assert "predictions" not in [c.promise for c in check_all(replace(proof, dtypes={"float32": undecided}))]
    assert next(_said_of("float32", undecided)) == "predictions in float32: 3 of 3 images are too close to call"


def test_a_margin_is_that_of_the_first_two() -> None:
    assert margins(np.array([[1.0, 4, 2], [5, 5, 0]])).tolist() == [2, 0]
    assert margins(np.array([[1.0]])).tolist() == [np.inf]


def test_a_product_alone_costs_what_its_matrices_come_to() -> None:
    """Of some 50 terms in float32: a few roundings; of 4096 in a single accumulator: more."""
    products = products_of(SMALL, "float32", SEED)
    assert {name: product.length for name, product in products.items()} == {"patches": 189, "dim": 40, "mlp_dim": 52}
    for product in products.values():
        assert 0 < product.errors.torch < FLOAT32
        assert 0 < product.errors.flax < FLOAT32
        assert allowed(product) == NOISE_RATIO * max(1, product.errors.ratio)
    long = products_of(SMALL.replace(mlp_dim=4096), "float32", SEED)["mlp_dim"]
    assert long.errors.flax > products["mlp_dim"].errors.flax


def test_a_product_is_compiled_as_the_model_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the passes of users' programs, which conftest.py turns off; without them its rounding is another."""
    asked, jit = [], jax.jit
    monkeypatch.setattr(jax, "jit", lambda f, **options: asked.append(options) or jit(f, **options))
    products_of(SMALL, "float32", SEED)
    assert asked == [{"compiler_options": AS_USERS}] * 3


def test_a_tensor_is_allowed_what_the_products_before_it_cost() -> None:
    products = {name: Product(8, Errors(1, ratio)) for name, ratio in {"patches": 1.1, "dim": 2, "mlp_dim": 3}.items()}
    names = ("embeddings", "blocks.0.attn.weights", "blocks.0", "blocks.1.attn.weights", "output")
    assert [noisiest(products, name).errors.ratio for name in names] == [1.1, 2, 3, 3, 3]
    layers: dict[str, Errors] = {name: Errors(1e-7, 2e-7) for name in names}
    measured = Rounded(layers, {}, products)
    (check,) = _rounded("float32", measured)
    assert not check.agrees
    assert (check.measured, check.bound, check.where) == (2, NOISE_RATIO * 1.1, "embeddings")
    assert check.parting.startswith("PyTorch and Flax part at embeddings (float32): Flax is 2.00 times as far")
    (check,) = _rounded("float32", Rounded({**layers, "embeddings": Errors(1e-7, 1e-7)}, {}, products))
    assert (check.agrees, check.bound, check.where) == (True, NOISE_RATIO * 2, "blocks.0.attn.weights")


def test_few_values_are_allowed_what_they_scatter_by_chance() -> None:
    """Simulated: two frameworks whose errors have the same size. Many values are held to the bound itself."""
    quiet, rng = Product(8, Errors(1, 1)), np.random.default_rng(0)
    assert allowed(quiet, NOISE_VALUES) == allowed(quiet, 10**6) == NOISE_RATIO
    for values in (1, 2, 4, 16, 64, 256):
        a, b = np.sqrt(np.square(rng.standard_normal((2, 10_000, values))).mean(-1))
        assert (a / b <= float(allowed(quiet, values))).all()
    assert allowed(quiet, 64) < 2 * NOISE_RATIO
    assert [float(allowed(quiet, n)) for n in (4, 64, 256)] == sorted(
        (float(allowed(quiet, n)) for n in (4, 64, 256)), reverse=True
    )


def test_a_noisy_product_widens_no_more_than_its_own_share() -> None:
    quiet, noisy = (Product(8, Errors(1e-7, flax)) for flax in (5e-8, 3e-7))
    assert allowed(quiet) == NOISE_RATIO
    assert allowed(noisy) == pytest.approx(3 * NOISE_RATIO, rel=EXACT)


def test_float64_numbers_are_those_of_both_models(native: Path, proof: Proof) -> None:
    images = proof.images.arrays.astype(np.float64)
    names = intermediate_names(SMALL)
    theirs = vit_torch.ViT.from_pretrained(native, dtype=torch.float64)
    ours = vit_flax.ViT.from_pretrained(native, param_dtype=np.float64)
    in_torch, in_flax = run_torch(theirs, images, names), run_flax(ours, images, names)
    found = proof.dtypes["float64"].distances
    assert isinstance(found, Exact)
    assert {name: found.gaps[name] for name in names} == {name: gap(in_flax[name], in_torch[name]) for name in names}
    assert list(found.gaps) == [*names, "output"]
    cotangent = held_exactly(np.random.default_rng(SEED + 1).standard_normal((4, 11)), "float32")
    gradients = grads_torch(theirs, images[:4], cotangent)
    assert found.gradients.keys() == gradients.keys()
    # scanned there and unrolled here: equal to rounding
    again = leaf_gaps(grads_flax(ours, images[:4], cotangent), gradients)
    assert max(again.values()) < GRADIENT
    assert max(found.gradients.values()) < GRADIENT


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rounding_errors_are_those_of_the_rounded_weights_and_images(native: Path, proof: Proof, dtype: str) -> None:
    images = held_exactly(proof.images.arrays, dtype)
    rounded = vit_torch.ViT.from_pretrained(native, dtype=getattr(torch, dtype))
    theirs = run_torch(rounded, images, ("blocks.1",))["blocks.1"]
    truth = run_torch(rounded.double(), images, ("blocks.1",))["blocks.1"]
    found = proof.dtypes[dtype].distances
    assert isinstance(found, Rounded)
    # every intermediate is asked for there, which chooses the explicit attention: another rounding of the same size
    assert found.layers["blocks.1"].torch == pytest.approx(rms(theirs - truth) / rms(truth), rel=0.2)
    assert found.layers["blocks.1"].ratio == found.layers["blocks.1"].flax / found.layers["blocks.1"].torch
    assert (1e-8 if dtype == "float32" else 1e-3) < found.layers["output"].flax < (1e-5 if dtype == "float32" else 0.1)


def test_every_tensor_is_mapped_with_the_sum_of_its_bits(native: Path, proof: Proof) -> None:
    stored = safetensors.numpy.load_file(native / "model.safetensors")
    found = {tensor.name: tensor for mapped in proof.tensors for tensor in mapped.source}
    assert {name: tensor.sha256 for name, tensor in found.items()} == {
        name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in stored.items()
    }
    (fc1,) = [mapped for mapped in proof.tensors if mapped.hub[0].name == "blocks.1.mlp.fc1.weight"]
    assert (fc1.axes, fc1.flax_axes) == ("", "o i -> i o")
    assert (fc1.hub[0].shape, fc1.flax[0].shape) == ((52, 40), (40, 52))
    assert fc1.flax[0].name == "blocks.1.mlp.fc1.kernel"
    assert all(not measured.unequal for measured in proof.dtypes.values())


def test_photographs_are_prepared_as_the_checkpoint_says(proof: Proof) -> None:
    images = proof.images
    assert images.names[:4] == ("0: china", "1: noise", "2: flower", "3: noise")
    assert "pixels at" in images.names[4]
    for i, name in ((0, "china"), (2, "flower")):
        assert np.array_equal(images.arrays[i], OWN(photograph(name)))
        assert np.array_equal(images.shown[i], OWN.pixels(photograph(name)))
    assert set(images.shown) == {0, 2, 4, 6}
    assert abs(images.arrays[1::2].std() - 1) < 0.05


def test_images_follow_the_seed() -> None:
    first, again, other = (make_images(SMALL, OWN, 6, seed).arrays for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert np.array_equal(first[0], other[0])  # a whole photograph
    assert not np.array_equal(first[1], other[1])
    assert not np.array_equal(first[4], other[4])


@pytest.mark.parametrize(("channels", "photographs"), [(1, 2), (3, 2), (4, 2), (5, 0)])
def test_without_preprocessing_photographs_are_scaled_and_it_is_said(channels: int, photographs: int) -> None:
    images = make_images(SMALL.replace(in_channels=channels), None, 4, 0)
    assert images.arrays.shape == (4, 28, 54, channels)
    assert len(images.shown) == photographs
    assert len(images.said) == 1
    if photographs:
        assert images.arrays[0].min() >= -1
        assert images.arrays[0].max() <= 1


def test_narrow_models_see_more_images() -> None:
    assert [count_for(SMALL.replace(dim=dim, num_heads=1)) for dim in (1024, 768, 384, 192, 40)] == [2, 2, 4, 8, 32]


@pytest.mark.parametrize(
    ("channels", "count", "said"),
    [
        (3, 2, ("gradients are of the photograph alone: the noise would take as long again",)),
        (5, 2, ("gradients are of one image alone: the other would take as long again",)),
        (3, 1, ()),
        (3, 3, ()),
    ],
)
def test_gradients_of_one_image_of_two_are_said(channels: int, count: int, said: tuple[str, ...]) -> None:
    """So it is of models of width 768 and more, unless more images are asked for."""
    images = make_images(SMALL.replace(in_channels=channels), None, count, 0)
    assert one_is_graded(images, make_batch(images.arrays, (), "float32", 0).graded) == said


def test_attention_weights_that_fill_the_memory_are_left_out_and_it_is_said() -> None:
    wide = SMALL.replace(image_size=(7 * 100, 9 * 100), depth=3)
    names, said = names_for(wide, 2)
    assert [name for name in names if "attn" in name] == ["blocks.0.attn.weights", "blocks.2.attn.weights"]
    assert "24 GB" in said[0]
    assert {"embeddings", "blocks.1", "logits"} <= set(names)
    assert names_for(SMALL, 32) == (intermediate_names(SMALL), ())


def test_a_place_is_named_by_image_token_and_channel() -> None:
    config = SMALL.replace(dist_token=True, num_registers=1, pool="class_dist")
    names = [token(config, i) for i in (0, 1, 2, 3, 8, 9)]
    assert names == ["class token", "distillation token", "register 0", "patch (0, 0)", "patch (0, 5)", "patch (1, 0)"]
    a = np.zeros((2, 5, 27, 27))
    b = a.copy()
    b[1, 3, 0, 9] = 0.25
    place = place_of(config, ("0: china", "1: noise"), "blocks.0.attn.weights", a, b)
    assert place.where == "image 1: noise, head 3, from class token to patch (1, 0)"
    assert (place.torch, place.flax) == (0.0, 0.25)
    pooled = np.zeros((2, 5, 24))
    moved = pooled.copy()
    moved[0, 3, 8] = -0.5
    for prefix in (config, SMALL.replace(class_token=False, pool="map")):
        assert place_of(prefix, ("a", "b"), "attn_pool.weights", pooled, moved).where == "image a, head 3, patch (1, 2)"
    logits = np.zeros((2, 11))
    broken = logits.copy()
    broken[0, 4], broken[1, 7] = 3, np.nan
    assert place_of(config, ("a", "b"), "logits", logits, broken).where == "image b, class 7"


def test_what_is_not_finite_is_infinitely_far() -> None:
    theirs = {"a": np.ones(3), "b": np.ones(2)}
    ours = {"a": np.ones(3), "b": np.array([1, np.nan])}
    assert all_gaps(ours, theirs) == {"a": 0, "b": np.inf}
    assert leaf_gaps_or_infinite(ours, theirs) == {"a": 0, "b": np.inf}
    assert Errors(0.0, 0.0).ratio == 1
    assert Errors(0.0, 1e-9).ratio == np.inf


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_a_layer_that_is_not_finite_is_a_disagreement_wherever_it_stands(lost: float) -> None:
    """In a dtype that rounds, behind layers that agree, in a model without head and gradients."""
    truth = {name: np.ones(4) for name in ("embeddings", "blocks.0", "blocks.1")}
    torch = {name: x + 1e-7 for name, x in truth.items()}
    flax = torch | {"blocks.1": np.array([1, lost, 1, 1])}
    products = {name: Product(4, Errors(1.0, 1.0)) for name in ("patches", "dim", "mlp_dim")}
    found = compare_rounded(Run(torch, {}), Run(flax, {}), Run(truth, {}), products)
    assert found.layers["blocks.1"].ratio == np.inf
    (check,) = _rounded("float32", found)
    assert not check.agrees
    assert (check.measured, check.where) == (np.inf, "blocks.1")
    assert check.parting.startswith("PyTorch and Flax part at blocks.1 (float32): Flax is inf times as far")
    assert noise(flax, truth, truth) == np.inf


def test_a_gradient_beyond_its_bound_is_called_one() -> None:
    """In a dtype that rounds too: its tensor's name alone is no intermediate's."""
    products = {name: Product(4, Errors(1.0, 1.0)) for name in ("patches", "dim", "mlp_dim")}
    even, worse = Errors(1e-7, 1e-7), Errors(1e-7, 1e-5)
    agreeing, check = _rounded("float32", Rounded({"output": even}, {"head.weight": worse}, products))
    assert check.what == f"{agreeing.what}, gradients"
    assert check.parting.startswith("PyTorch and Flax part at the gradient of head.weight (float32): Flax is 100.00 ")


def test_a_gradient_that_is_zero_has_no_noise_of_its_own() -> None:
    """What float64 leaves of it, 1e-17, is no size to measure another gradient's error by."""
    truth = {"head.bias": np.ones(4), "attn_pool.k.bias": np.full(4, 1e-17)}
    found = {"head.bias": np.full(4, 1 + 2.0**-21), "attn_pool.k.bias": np.full(4, 2.0**-24)}
    worse = found | {"head.bias": np.full(4, 1 + 2.0**-14)}
    assert noise(worse, truth, truth) > 100 * noise(found, truth, truth)
    assert noise({"k.bias": np.zeros(2)}, {"k.bias": np.zeros(2)}, ["k.bias"]) == 0


def test_a_product_that_is_no_matter_of_order_widens_nothing_further() -> None:
    assert allowed(Product(4, Errors(1e-7, 1e-3))) == NOISE_RATIO * PRODUCT_RATIO


def test_gradients_of_few_values_are_judged_together() -> None:
    sizes = {"blocks.0.norm1.bias": 200, "blocks.1.norm1.bias": 200, "head.bias": 9, "blocks.0.attn.qkv.weight": 600}
    groups = by_kind({name: np.zeros(size) for name, size in sizes.items()})
    assert groups == {
        FEW: ["blocks.0.norm1.bias", "blocks.1.norm1.bias", "head.bias"],
        "blocks.attn.qkv.weight": ["blocks.0.attn.qkv.weight"],
    }


@pytest.mark.slow
def test_one_dtype_alone_is_measured_where_it_is_asked_for(native: Path) -> None:
    found = prove(open_source(str(native)), Asked(dtypes=("float32",), images=2, original=False))
    assert list(found.dtypes) == ["float32"]
    assert found.original == "not asked for"
    assert agrees(check_all(found))


@pytest.mark.parametrize(
    "config",
    [
        SMALL.replace(num_classes=0, dist_token=True, pool="class_dist"),
        SMALL.replace(in_channels=1, depth=1, class_token=False, pool="map"),
        SMALL.replace(rope="dinov3", rope_theta=100, pos_embed="none", num_registers=3, mlp="swiglu", act="silu"),
    ],
    ids=["features, distilled", "grey, one block, attention pooling", "rotary positions, registers, swiglu"],
)
@pytest.mark.slow
def test_models_of_other_kinds_agree_too(tmp_path: Path, config: ViTConfig) -> None:
    found = prove(open_source(str(save(tmp_path / "model", config, preprocess=None))), Asked())
    checks = check_all(found)
    assert agrees(checks), summary(found, checks)
    assert (found.dtypes["float64"].predictions is None) == (not config.num_classes)


def test_the_attention_that_is_shown_is_what_the_pooled_feature_is_read_by(tmp_path: Path) -> None:
    """Of attention pooling its own weights, as vit-predict draws them, not the last block's."""
    config = SMALL.replace(depth=1, class_token=False, pool="map", final_norm="tokens")
    path = save(tmp_path / "pooled", config)
    found = prove(open_source(str(path)), Asked(dtypes=("float64",), images=4, original=False))
    shown = found.dtypes["float64"].attention
    images = found.images.arrays[list(shown.images)]
    name = "attn_pool.weights"
    read = run_torch(vit_torch.ViT.from_pretrained(path, dtype=torch.float64), images, (name,))[name].mean(1)
    for maps in (shown.torch, shown.flax):
        assert gap(maps.reshape(read.shape), read) < FORWARD


@pytest.mark.slow
def test_a_head_of_zeros_agrees(tmp_path: Path) -> None:
    """Fine-tuning begins with one: all gradients below it are zero."""
    model = vit_torch.ViT(SMALL)
    randomise(model, seed=1)
    assert model.head is not None
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    model.save_pretrained(tmp_path / "zero")
    found = prove(open_source(str(tmp_path / "zero")), Asked(dtypes=("float64", "float32"), images=4))
    checks = check_all(found)
    assert agrees(checks), summary(found, checks)


def test_a_checkpoint_that_is_not_finite_is_refused_by_its_tensor(tmp_path: Path) -> None:
    model = vit_torch.ViT(SMALL)
    with torch.no_grad():
        model.blocks[1].norm1.weight[3] = torch.nan  # type: ignore[index, union-attr]
    model.save_pretrained(tmp_path / "nan")
    with pytest.raises(CheckpointError, match=r"NaN or infinite.*: blocks.1.norm1.weight \(1\)$"):
        prove(open_source(str(tmp_path / "nan")), Asked())


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [1, 2])
def test_no_seed_alarms_over_few_classes(tmp_path: Path, num_classes: int) -> None:
    """Two images of two classes are four logits."""
    sizes: dict[str, Any] = dict(image_size=32, patch_size=16, dim=384, depth=2, num_heads=6, mlp_dim=768)
    path = save(tmp_path / "few", ViTConfig(**sizes, num_classes=num_classes))
    for seed in range(6):
        checks = check_all(prove(open_source(str(path)), Asked(dtypes=("float32", "bfloat16"), seed=seed)))
        assert agrees(checks), [check.parting for check in checks]


@pytest.mark.slow
def test_no_seed_alarms(native: Path) -> None:
    """The bound on noise is no matter of luck."""
    for seed in range(20):
        checks = check_all(prove(open_source(str(native)), Asked(dtypes=("float32", "bfloat16"), seed=seed)))
        assert agrees(checks), [check.parting for check in checks]
