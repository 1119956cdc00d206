"""vit-verify finds the class that a checkpoint was written for, runs the file's own tensors in it, or says why not."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

import vit_torch
from parity_tests.changed_class import FLOAT64, save_timm
from parity_tests.compare import gap, leaf_gaps, worst
from parity_tests.families import FAMILIES, Family
from parity_tests.pairs import grads_torch, run_torch
from parity_tests.real.base import Forward
from parity_tests.tolerances import FORWARD, GRADIENT
from parity_tests.verify.asked import Asked
from parity_tests.verify.command import main
from parity_tests.verify.original import Original, Refused, Unavailable, open_original
from parity_tests.verify.own_class import IMAGE_GRADIENT, OF, OriginalGaps, own_class_in
from parity_tests.verify.own_parts import run_parts
from parity_tests.verify.own_run import gradients, in_hub_names, run_blocks
from parity_tests.verify.page import page
from parity_tests.verify.prove import prove
from parity_tests.verify.source import open_source
from parity_tests.verify.table import table
from parity_tests.verify.verdict import agrees, check_all, summary
from vit_convert.hub import hub_shapes
from vit_convert.intermediates import intermediate_names

GOLDEN = Path(__file__).parent / "golden"


HAD = [family for family in FAMILIES if family.load is not None]


# One of each library is proven whole, the first of them by make test; all of them are run in their class below.
PROVEN = {
    ("timm:eva", "DINOv3"),
    ("transformers:dinov2_with_registers", "DINOv2 with registers"),
    ("open_clip:vit", "CLIP"),
}


named: Callable[[Family], str] = lambda family: f"{family.layout} {family.name}"  # noqa: E731


def proven() -> list[Any]:
    first, *others = (family for family in HAD if (family.layout, family.name) in PROVEN)
    return [first, *(pytest.param(family, marks=pytest.mark.slow) for family in others)]


@pytest.mark.parametrize("family", proven(), ids=named)
def test_both_frameworks_are_the_function_of_its_own_class(tmp_path: Path, family: Family) -> None:
    saved = family.save(tmp_path)
    found = prove(open_source(str(saved.path), overrides=family.given), FLOAT64)
    assert isinstance(found.original, OriginalGaps), found.original
    library, cls = family.real.split()
    assert found.original.name.startswith(f"{library} ")
    assert (cls in found.original.name) == (library != "open_clip")  # of which the visual tower is run alone
    config = found.source.checkpoint.config
    leaves = {OF + name for name in hub_shapes(config)}
    expected = set(intermediate_names(config)) - {"logits"} | {"output", IMAGE_GRADIENT} | leaves
    assert expected == set(found.original.torch) == set(found.original.flax)
    checks = check_all(found)
    assert agrees(checks), summary(found, checks)
    assert summary(found, checks) == f"On this checkpoint PyTorch, Flax and {found.original.name} are one function."
    norm = ", its last norm" * (config.final_norm == "tokens")
    said = (
        f"compared with {found.original.name} in float64: what enters its first block, what each of its {config.depth} "
        f"blocks gives, the attention weights of {config.depth} of them{norm}, what it pools, its output, the gradient "
        f"of the images and those of {len(leaves)} tensors"
    )
    assert found.said[-1] == said
    assert page(found, checks, "").count(said) == 1
    assert f"note: {said}" in table(found, checks).splitlines()


def test_what_was_compared_with_its_own_class_is_said_and_no_more() -> None:
    gaps = {"output": 0.0}
    assert own_class_in(OriginalGaps("timm X", "1", gaps, gaps)) == (
        "compared with timm X in float64: its output; no gradients of its weights"
    )
    some = {"output": 0.0, IMAGE_GRADIENT: 0.0, f"{OF}head.bias": 0.0}
    assert own_class_in(OriginalGaps("timm X", "1", some, some, "none of norm.bias in what it saves")) == (
        "compared with timm X in float64: its output, the gradient of the images and those of 1 tensors; not all "
        "gradients of its weights: none of norm.bias in what it saves"
    )
    lost = OriginalGaps("timm X", "1", gaps, gaps, unseen="not found in it: norm, pooled")
    assert own_class_in(lost) == (
        "compared with timm X in float64: its output; not found in it: norm, pooled; no gradients of its weights"
    )
    with_images = {"output": 0.0, IMAGE_GRADIENT: 0.0}
    assert own_class_in(OriginalGaps("timm X", "1", with_images, with_images, "the disk is full")) == (
        "compared with timm X in float64: its output and the gradient of the images; no gradients of its "
        "weights: the disk is full"
    )


@pytest.mark.slow
@pytest.mark.parametrize("family", HAD, ids=named)
def test_every_family_that_has_a_class_here_is_run_in_it(tmp_path: Path, family: Family) -> None:
    saved = family.save(tmp_path)
    source = open_source(str(saved.path), overrides=family.given)
    config = source.checkpoint.config
    images = np.random.default_rng(0).standard_normal((2, *config.image_hw, config.in_channels))
    original = open_original(source)
    found, blocks = run_blocks(original, images, config.depth)
    assert np.array_equal(found["output"], saved.answer(images))
    assert {"embeddings", *(f"blocks.{i}" for i in range(config.depth))} < set(found)
    found |= run_parts(original, images, blocks, config, intermediate_names(config))
    names = [name for name in intermediate_names(config) if name != "logits"]
    # This one norms its class token, and not all of them.
    alone = family.layout == "transformers:clip_vision_model" and config.pool == "class"
    assert [name for name in names if name not in found] == ["norm"] * alone
    run = run_torch(source.torch("float64"), images, names)
    gaps = {name: gap(run[name], found[name]) for name in names if name in found}
    assert max(gaps.values()) < FORWARD, worst(gaps)
    cotangent = np.random.default_rng(1).standard_normal(found["output"].shape)
    ours = grads_torch(source.torch("float64"), images, cotangent)
    of_images, of_params = gradients(original, images, cotangent)
    assert gap(ours.pop("images"), of_images) < GRADIENT
    gaps = leaf_gaps(ours, in_hub_names(original, source, of_params))
    assert max(gaps.values()) < GRADIENT, worst(gaps)


def test_another_function_than_its_own_class_exits_1_and_names_the_block(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both frameworks agree on what the user says, and the class knows better."""
    save_timm(tmp_path)
    assert main([str(tmp_path), "--set", "act=gelu_tanh", "--dtypes", "float64", "--images", "2"]) == 1
    out = capsys.readouterr().out
    assert "PyTorch and timm VisionTransformer part at blocks.0 (float64)" in out
    assert "Flax and timm VisionTransformer part at blocks.0 (float64)" in out
    assert "every intermediate (9)" in out.split("agrees")[1]


@pytest.mark.slow
def test_a_bare_file_is_run_in_the_class_that_its_preset_names(tmp_path: Path) -> None:
    """Without a config.json, timm makes the architecture of this name."""
    model = vit_torch.ViT(vit_config("test_vit"))
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    source = open_source(str(tmp_path / "bare.pth"), preset="test_vit")
    original = open_original(source)
    assert original.name == "timm VisionTransformer"
    config = source.checkpoint.config
    images = np.random.default_rng(0).standard_normal((1, *config.image_hw, 3))
    exact = prove(source, Asked(dtypes=("float64",), images=1)).original
    assert isinstance(exact, OriginalGaps)
    assert max(*exact.torch.values(), *exact.flax.values()) < FORWARD
    assert run_blocks(original, images, config.depth).arrays["output"].shape == (1, config.num_classes)


def vit_config(preset: str) -> Any:
    from vit_convert.presets import PRESETS

    return PRESETS[preset].config.replace(num_classes=7, head_bias=True)


@pytest.mark.parametrize(
    ("file", "given", "reason"),
    [
        ("dinov2/registers.pth", {"num_heads": 3}, "facebookresearch/dinov2's DinoVisionTransformer: no package"),
        (
            "vision_transformer/token_published.npz",
            {},
            "google-research/vision_transformer's VisionTransformer: ",
        ),
        ("scenic/token.msgpack", {}, "google-research/scenic's ViT: no package brings it"),
        ("transformers_4_flax/vit", {}, "transformers' Flax class (gone since transformers 5): no package brings it"),
    ],
)
def test_a_class_that_no_package_brings_is_named(file: str, given: dict[str, Any], reason: str) -> None:
    record = json.loads((GOLDEN / file).with_suffix(".json").read_text())
    given = {name: record["config"][name] for name in given}
    with pytest.raises(Unavailable, match=reason.replace("(", r"\(").replace(")", r"\)")):
        open_original(open_source(str(GOLDEN / file), overrides=given))


def test_a_library_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_timm(tmp_path)
    source = open_source(str(tmp_path))
    monkeypatch.delitem(sys.modules, "parity_tests.real.timm", raising=False)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(Unavailable, match=r"timm isn't installed .*: pip install 'vit-parity\[parity\]'"):
        open_original(source)


def test_files_that_a_library_does_not_take_are_said(tmp_path: Path) -> None:
    save_timm(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path.parent / "bare.safetensors")
    fields = {"image_size": (40, 40), "num_heads": 3, "norm_eps": 1e-6, "act": "gelu", "pool": "class"}
    fields |= {"rope": "none", "pos_resize": "bicubic_antialias"}
    bare = open_source(str(tmp_path.parent / "bare.safetensors"), overrides=fields)
    with pytest.raises(Unavailable, match=r"no config\.json of timm's beside the file and no --preset"):
        open_original(bare)


class InPlace(nn.Module):
    """Blocks that are given their tokens by name and add to them where they are."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Adds(), Adds()])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            tokens = block(mask=torch.ones(1), tokens=tokens)
        return tokens[:, 0]


class Adds(nn.Module):
    def forward(self, mask: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.add_(mask)


def test_what_enters_the_first_block_is_kept_however_it_is_given() -> None:
    model = InPlace()
    answer = Forward(lambda pixels: model(pixels[:, 0].clone()), cast(Any, None))
    original = Original("a class", "1", model, answer, cast(Any, None))
    found, _ = run_blocks(original, np.zeros((2, 3, 4, 1)), 2)
    assert np.array_equal(found["embeddings"], np.zeros((2, 3, 4)))
    assert np.array_equal(found["output"], np.full((2, 4), 2.0))


@pytest.mark.parametrize("said", ["bfloat16", "float16"])
def test_transformers_class_has_the_files_numbers_whatever_dtype_its_config_names(tmp_path: Path, said: str) -> None:
    (family,) = [f for f in HAD if (f.layout, f.real) == ("transformers:vit", "transformers ViTModel")][:1]
    saved = family.save(tmp_path)
    path = Path(saved.path) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": said, "torch_dtype": said}))
    source = open_source(str(saved.path), overrides=family.given)
    config = source.checkpoint.config
    images = np.random.default_rng(0).standard_normal((2, *config.image_hw, config.in_channels))
    assert np.array_equal(open_original(source).answer(images), saved.answer(images))


def test_a_class_whose_config_asks_for_eager_attention_agrees(tmp_path: Path) -> None:
    """Its softmax is in float32 then, whatever its tokens are: here it isn't, as nothing else of it is."""
    (family,) = [f for f in HAD if (f.layout, f.real) == ("transformers:vit", "transformers ViTModel")][:1]
    saved = family.save(tmp_path)
    path = Path(saved.path) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"attn_implementation": "eager"}))
    source = open_source(str(saved.path), overrides=family.given)
    assert cast(Any, open_original(source).model).config._attn_implementation == "eager"
    found = prove(source, FLOAT64)
    assert agrees(check_all(found)), summary(found, check_all(found))


def test_a_class_that_lacks_tensors_refuses_the_file(tmp_path: Path) -> None:
    """config.json names one with a head, and the file has none."""
    (family,) = [f for f in HAD if (f.layout, f.real) == ("transformers:vit", "transformers ViTModel")][:1]
    saved = family.save(tmp_path)
    config = json.loads((Path(saved.path) / "config.json").read_text())
    (Path(saved.path) / "config.json").write_text(json.dumps(config | {"architectures": ["ViTForImageClassification"]}))
    with pytest.raises(
        Refused, match=r"ViTForImageClassification finds not all .*it lacks classifier.bias, classifier"
    ):
        open_original(open_source(str(saved.path), overrides=family.given))


def test_an_architecture_that_the_installed_package_has_not_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_timm(tmp_path / "timm")
    monkeypatch.setattr("timm.is_model", lambda name: False)
    with pytest.raises(Unavailable, match=r"timm's vit_base_patch16_224: timm .* has no such architecture"):
        open_original(open_source(str(tmp_path / "timm")))
    (family,) = [f for f in HAD if f.layout == "transformers:vit"][:1]
    saved = family.save(tmp_path / "transformers")
    monkeypatch.setattr("transformers.CONFIG_MAPPING", {})
    with pytest.raises(Unavailable, match=r"transformers' class: transformers .* has no model_type 'vit'"):
        open_original(open_source(str(saved.path), overrides=family.given))
