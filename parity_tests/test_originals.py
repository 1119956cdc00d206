"""The originals by Meta: what names alone tell of their files, what is taken out of them, and what is refused."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from parity_tests.strategies import random_tensors
from vit_convert.checkpoint import open_checkpoint, save_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.files import open_tensors
from vit_convert.hub import hub_shapes
from vit_convert.layouts import LAYOUTS, choose
from vit_convert.layouts.base import Bare
from vit_convert.layouts.deit3 import SIZES as DEIT3_SIZES
from vit_convert.layouts.dinov3 import solve
from vit_convert.presets import PRESETS
from vit_convert.resolve import resolve
from vit_convert.rules import infer
from vit_convert.table import layout_shapes, made, spare_names

Arrays = dict[str, np.ndarray]
SMALL: dict[str, Any] = {"image_size": 20, "patch_size": 4, "dim": 24, "depth": 2, "num_heads": 3, "mlp_dim": 40}
WIDE: dict[str, Any] = SMALL | {"num_heads": 2}  # heads that have periods which bfloat16 doesn't hold
DINOV3 = ViTConfig(
    **WIDE, pos_embed="none", rope="dinov3", rope_theta=100, rope_round_periods="bfloat16",
    norm_eps=1e-5, layer_scale=True, qkv_bias="qv", num_registers=4,
)  # fmt: skip


def written(layout: str, config: ViTConfig, folder: Path) -> Arrays:
    """The tensors of a file of this layout, with random weights."""
    save_checkpoint(folder / "written", config, random_tensors(config).items(), layout=layout)
    return safetensors.numpy.load_file(folder / "written" / "model.safetensors")


def saved(tensors: Arrays, folder: Path) -> Path:
    """A bare file of them."""
    path = folder / "bare.safetensors"
    safetensors.numpy.save_file(tensors, path)
    return path


def read_from_names_alone(layout_name: str, config: ViTConfig) -> tuple[ViTConfig, dict[str, str]]:
    """The config that a bare file of this one would be read as, without its weights being made."""
    layout = LAYOUTS[layout_name]
    shapes, spares = layout_shapes(layout, config), made(layout, config)
    spelled = layout.recognise(shapes)
    assert spelled is not None
    hub, unplaced = infer(layout.rules, spelled, shapes)
    assert not unplaced
    described = layout.bare(Bare(hub, shapes, lambda name: spares[name]))
    model = {name: shape for name, shape in hub.items() if name not in spare_names(layout, config.depth)}
    return resolve("file", model, described, None, {})


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.origin in ("dinov2", "dinov3")])
def test_a_published_file_tells_everything_by_itself(name):
    preset = PRESETS[name]
    config, sources = read_from_names_alone(preset.origin, preset.config)
    assert config == preset.config
    assert "default" not in {sources[field] for field in ("num_heads", "image_size", "norm_eps", "act", "pool")}


@pytest.mark.parametrize("size", DEIT3_SIZES, ids=str)
def test_every_size_that_deit_iii_builds_tells_everything_by_itself(size):
    (dim, depth, patch), (heads, name) = size, DEIT3_SIZES[size]
    config = ViTConfig(
        image_size=12 * patch, patch_size=patch, dim=dim, depth=depth, num_heads=heads, mlp_dim=4 * dim,
        num_classes=1000, layer_scale=True, pos_prefix="none", pos_resize="bicubic",
    )  # fmt: skip
    found, sources = read_from_names_alone("deit3", config)
    assert found == config
    assert sources["num_heads"] == f"signature of {name}"


def test_what_else_calls_its_layer_scale_gamma_is_not_taken_for_deit_iii_s():
    """timm's Eva: q and v biases apart; or, in its Perception Encoders, a class token with a row in the table."""
    config = ViTConfig(**SMALL, layer_scale=True, pos_prefix="none")
    shapes = layout_shapes(LAYOUTS["deit3"], config)
    recognise = LAYOUTS["deit3"].recognise
    assert recognise(shapes) == {}
    assert recognise(shapes | {"blocks.0.attn.q_bias": (24,)}) is None
    assert recognise(shapes | {"pos_embed": (1, 26, 24)}) is None
    assert recognise({name: shape for name, shape in shapes.items() if name != "cls_token"}) is None


@pytest.mark.parametrize("name", ["dino_vits16", "mae_vit_huge_patch14"])
def test_what_stands_aside_tells_the_family_and_the_family_tells_the_rest(name):
    preset = PRESETS[name]
    config, sources = read_from_names_alone(preset.origin, preset.config)
    assert config == preset.config
    assert sources["num_heads"] == f"signature of {name}"


def test_a_backbone_is_dino_s_only_with_its_head_beside_it(tmp_path):
    config = ViTConfig(**SMALL, pos_resize="bicubic_offset")
    wrapped = {f"backbone.{name}": array for name, array in written("dino", config, tmp_path).items()}
    with pytest.raises(CheckpointError, match="no known layout"):
        open_checkpoint(saved(wrapped, tmp_path))
    head = {"head.mlp.0.weight": np.zeros((5, 24), "f4"), "head.last_layer.weight_g": np.zeros((7, 1), "f4")}
    found = open_checkpoint(saved(wrapped | head, tmp_path), overrides={"num_heads": 3})
    assert (found.layout, found.config) == ("dino", config)
    assert found.said == ("left out the self-supervised head: head.last_layer.weight_g, head.mlp.0.weight",)


def test_a_timm_file_with_a_decoder_beside_it_is_mae_s(tmp_path):
    config = ViTConfig(**SMALL, pos_resize="bicubic")
    plain = written("mae", config, tmp_path)
    with pytest.raises(CheckpointError, match="nothing tells image_size, num_heads, pos_resize"):
        open_checkpoint(saved(plain, tmp_path))
    decoder = {"mask_token": np.zeros((1, 1, 8), "f4"), "decoder_embed.weight": np.zeros((8, 24), "f4")}
    found = open_checkpoint(saved(plain | decoder, tmp_path), overrides={"num_heads": 3})
    assert (found.layout, found.config) == ("mae", config)
    assert found.said[0] == "left out the decoder of masked pre-training: decoder_embed.weight"


def test_dinov2_s_registers_keep_the_class_row_which_timm_gets_folded_and_gives_as_zeros():
    config = ViTConfig(**SMALL, num_registers=4, layer_scale=True)
    assert choose("dinov2", config) == (LAYOUTS["dinov2"], ())
    there, folded = choose("timm", config)
    assert (there.name, [step.config for step in folded]) == ("timm:vit", [config.replace(pos_prefix="none")])
    layout, padded = choose("dinov2", config.replace(pos_prefix="none"))
    assert (layout.name, [step.config for step in padded]) == ("dinov2", [config])
    assert padded[0].said == "position rows of zeros for the class token: the same function"


@pytest.mark.parametrize("name", ["backbone.cls_token", "linear_head.weight", "backbone.patch_embed.proj.weight"])
def test_a_tensor_with_no_axes_is_listed(tmp_path, name):
    config = ViTConfig(**SMALL, num_classes=3, pool="class_mean", layer_scale=True, pos_resize="bicubic_offset")
    path = saved(written("dinov2", config, tmp_path) | {name: np.zeros((), np.float32)}, tmp_path)
    with pytest.raises(CheckpointError, match=f"1 misshapen:\n    {name}: expected .*, got \\(\\)"):
        open_checkpoint(path, overrides=config.to_dict())


def test_a_classifier_on_four_blocks_is_refused_and_one_on_the_last_is_read(tmp_path):
    config = ViTConfig(**SMALL, layer_scale=True, num_classes=5, pool="class_mean", pos_resize="bicubic_offset")
    tensors = written("dinov2", config, tmp_path)
    assert tensors["linear_head.weight"].shape == (5, 48)
    assert open_checkpoint(saved(tensors, tmp_path), overrides={"num_heads": 3}).config == config
    tensors["linear_head.weight"] = np.zeros((5, 120), "f4")
    with pytest.raises(CheckpointError, match="on the class tokens of four blocks, which is not read"):
        open_checkpoint(saved(tensors, tmp_path), overrides={"num_heads": 3})


REFUSED = {
    "DINO's linear classifier alone is not read: there is no ViT": ("linear.weight", "linear.bias"),
    "a linear classifier of DINOv2 or DINOv3 alone is not read: there is no ViT": ("weight", "bias"),
    "DINOv3 with a norm of its own for the class token": ("cls_token", "norm.weight", "cls_norm.weight"),
    "a ViT with parallel blocks": ("cls_token", "blocks.0.norm1.weight", "blocks.0.norm11.weight"),
    "a ViT with the hMLP stem": ("cls_token", "patch_embed.proj.0.weight"),
    "EVA or EVA-02 as its own repository names it": ("cls_token", "blocks.0.attn.inner_attn_ln.weight"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_the_repositories_have_beside_is_refused_by_name(tmp_path, message):
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(saved({name: np.zeros(3, "f4") for name in REFUSED[message]}, tmp_path))


@pytest.mark.parametrize(("theta", "heads"), [(100.0, 64), (10_000.0, 64), (100.0, 128), (250.0, 96)])
@pytest.mark.parametrize("rounding", ["bfloat16", "none"])
def test_periods_tell_their_theta_and_rounding(theta, heads, rounding):
    exact = theta ** (np.arange(heads // 4) / (heads // 4))
    stored = exact.astype(ml_dtypes.bfloat16 if rounding == "bfloat16" else np.float32)
    assert solve(stored.astype(np.float64)) == (theta, rounding)
    assert solve(stored.astype(np.float64) * 1.01) is None


def test_a_dinov3_file_of_a_size_that_nobody_builds_is_asked_for_its_image_size_alone(tmp_path):
    tensors = written("dinov3", DINOV3, tmp_path)
    assert tensors["rope_embed.periods"].dtype == ml_dtypes.bfloat16
    path = saved(tensors, tmp_path)
    with pytest.raises(CheckpointError, match="nothing tells image_size \\(it is DINOv3's, of a size that its"):
        open_checkpoint(path)
    found = open_checkpoint(path, overrides={"image_size": 20})
    assert found.config == DINOV3
    assert found.sources["rope_theta"] == found.sources["num_heads"] == "rope_embed.periods"


MASK, PERIODS = "blocks.1.attn.qkv.bias_mask", "rope_embed.periods"
SPOILED: dict[str, tuple[str, Any, str]] = {
    "mask as it is made": (MASK, lambda m: np.full_like(m, np.nan), "bias_mask: expected ones for q and v"),
    "mask of ones": (MASK, np.ones_like, "bias_mask: expected ones for q and v and zeros for k"),
    "periods reversed": (PERIODS, lambda p: p[::-1].copy(), "rope_theta, .*rope_embed.periods are not the powers"),
    "one period": (PERIODS, lambda p: p[:1], "nothing tells rope_theta"),
}


@pytest.mark.parametrize(("name", "spoil", "message"), SPOILED.values(), ids=list(SPOILED))
def test_a_dinov3_file_whose_mask_or_periods_mean_another_function_is_refused(tmp_path, name, spoil, message):
    tensors = written("dinov3", DINOV3, tmp_path)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(saved(tensors | {name: spoil(tensors[name])}, tmp_path), overrides={"image_size": 20})


def test_periods_that_are_not_the_config_s_are_refused(tmp_path):
    written("dinov3", DINOV3, tmp_path)
    with pytest.raises(CheckpointError, match=r"rope_embed.periods: expected .* \(rope_theta 50"):
        open_checkpoint(tmp_path / "written", overrides={"rope_theta": 50.0})


def test_published_periods_are_rounded_and_timm_s_are_not_which_one_has_to_say(tmp_path):
    path = saved(written("dinov3", DINOV3, tmp_path), tmp_path)
    said = {"image_size": 20, "rope_round_periods": "none"}
    with pytest.raises(CheckpointError, match="rope_round_periods 'bfloat16': only 'none'"):
        choose("timm:eva", open_checkpoint(path, overrides={"image_size": 20}).config)
    found = open_checkpoint(path, overrides=said)
    assert choose("timm:eva", found.config)[0].name == "timm:eva"
    exact = dict(found.tensors("dinov3"))["rope_embed.periods"]
    assert exact.dtype == np.float32
    save_checkpoint(tmp_path / "exact", found.config, found.tensors(), layout="dinov3")
    with pytest.raises(CheckpointError, match=r"expected .* rope_round_periods 'bfloat16'"):
        open_checkpoint(tmp_path / "exact", overrides={"rope_round_periods": "bfloat16"})


GOLDEN = [("dinov2", case) for case in ("plain", "registers", "swiglu")]
GOLDEN += [("dinov3", case) for case in ("mlp", "swiglu", "float32_periods")]


@pytest.mark.parametrize(("layout", "case"), GOLDEN)
def test_what_is_written_has_every_name_of_the_original_class_so_that_it_loads_strictly(layout, case):
    """With the spare ones: mask_token, bias_mask, periods."""
    path = Path(__file__).parent / "golden" / layout / f"{case}.pth"
    config = open_checkpoint(path, overrides={"num_heads": 3, "image_size": 20}).config
    assert layout_shapes(LAYOUTS[layout], config) == open_tensors(path).shapes


def test_the_bias_of_k_is_left_out_and_comes_back_as_zeros(tmp_path):
    tensors = written("dinov3", DINOV3, tmp_path)
    biased = tensors["blocks.0.attn.qkv.bias"].copy()
    assert not biased[24:48].any()
    biased[24:48] = 7
    found = open_checkpoint(saved(tensors | {"blocks.0.attn.qkv.bias": biased}, tmp_path), overrides={"image_size": 20})
    assert "left out bias_mask and the biases of k, which it takes out of the function" in found.said
    assert set(dict(found.tensors())) == set(hub_shapes(DINOV3))
    again = dict(found.tensors("dinov3"))
    assert np.array_equal(again["blocks.0.attn.qkv.bias"], tensors["blocks.0.attn.qkv.bias"])
    assert np.array_equal(again["blocks.0.attn.qkv.bias_mask"], np.repeat([1, 0, 1], 24))


def test_only_the_class_of_the_7b_model_gets_its_training_norm_again():
    seven_b = PRESETS["dinov3_vit7b16"].config
    assert layout_shapes(LAYOUTS["dinov3"], seven_b)["local_cls_norm.weight"] == (4096,)
    assert "local_cls_norm.weight" not in layout_shapes(LAYOUTS["dinov3"], PRESETS["dinov3_vitl16"].config)


def test_a_spare_has_the_dtype_of_what_it_stands_beside(tmp_path):
    tensors = random_tensors(DINOV3, dtype=np.float16) | {"patch_embed.proj.weight": np.zeros((24, 3, 4, 4), "f4")}
    save_checkpoint(tmp_path / "mixed", DINOV3, tensors.items(), layout="dinov3")
    file = safetensors.numpy.load_file(tmp_path / "mixed" / "model.safetensors")
    assert (file["mask_token"].dtype, file["blocks.0.attn.qkv.bias"].dtype) == (np.float32, np.float16)


@pytest.mark.parametrize("layout", ["deit", "deit3", "dino", "mae", "dinov2"])
def test_another_rule_for_resizing_is_said_when_it_is_written(layout):
    config = ViTConfig(**SMALL, pos_resize="bilinear")
    (note,) = LAYOUTS[layout].write(config, None, None).notes
    assert "resizes positions by bicubic" in note
    assert "not by bilinear: the same function at this image size, another at others" in note
