"""Preprocessing that is in code alone: torchvision's own, Meta's evaluations, Google's with TensorFlow's own pixels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
import torchvision
from torchvision import transforms as tv
from torchvision.models import VisionTransformer
from torchvision.transforms import v2

from parity_tests.compare import apart
from parity_tests.golden.tf_image_resize import BOX, FILE
from parity_tests.photographs import photograph, photographs
from parity_tests.tolerances import PIXEL, TORCHVISION_LEVELS, resampled
from vit_convert.checkpoint import open_checkpoint, save_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.hub import hub_shapes
from vit_convert.preprocess import Preprocess
from vit_convert.presets import PRESETS
from vit_convert.processors.known import CLIP, FAMILIES, IMAGENET, SATELLITE, TORCHVISION, known
from vit_convert.resample import resample
from vit_convert.save import plan_save

PHOTOGRAPHS = photographs()
WEIGHTS = [
    weights
    for name in ("ViT_B_16", "ViT_B_32", "ViT_L_16", "ViT_L_32", "ViT_H_14")
    for weights in getattr(torchvision.models, f"{name}_Weights")
]
CUBIC = tv.InterpolationMode.BICUBIC


def assert_same_bits(ours: Preprocess, transform: Any) -> None:
    for kind, image in PHOTOGRAPHS.items():
        np.testing.assert_array_equal(ours(image), transform(image).permute(1, 2, 0).numpy(), err_msg=kind)


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_torchvision_s_weights_are_known_by_the_names_of_their_files(weights):
    name = weights.url.rpartition("/")[2].rpartition("-")[0]
    size = TORCHVISION[name][0]
    assert list(weights.meta["min_size"]) == [size, size]
    assert_same_bits(known(f"torchvision/{name}", (size, size)), weights.transforms())


def test_every_file_of_torchvision_is_known():
    assert set(TORCHVISION) == {weights.url.rpartition("/")[2].rpartition("-")[0] for weights in WEIGHTS}


def margin(resize, crop, statistics=IMAGENET):
    """The composition that CLIP, DINO, DINOv2, DeiT and MAE all write out in their own files."""
    steps = [tv.Resize(resize, CUBIC), tv.CenterCrop(crop), tv.ToTensor(), tv.Normalize(**statistics)]
    return tv.Compose(steps)


@pytest.mark.parametrize(
    ("family", "crop", "transform"),
    [
        ("dino", 224, margin(256, 224)),
        ("dinov2", 224, margin(256, 224)),
        ("deit", 224, margin(int(224 / 0.875), 224)),
        ("deit", 384, margin(int(384 / 0.875), 384)),
        ("mae", 224, margin(int(224 / (224 / 256)), 224)),
        ("mae", 196, margin(int(196 / (224 / 256)), 196)),
        ("mae", 448, margin(448, 448)),
        ("clip", 224, margin(224, 224, CLIP)),
        ("clip", 336, margin(336, 336, CLIP)),
    ],
)
def test_meta_s_and_openai_s_evaluations_give_the_same_bits(family, crop, transform):
    assert_same_bits(known(family, (crop, crop)), transform)


@pytest.mark.parametrize(("family", "statistics"), [("dinov3", IMAGENET), ("dinov3_sat493m", SATELLITE)])
def test_dinov3_s_transform_differs_by_a_level(family, statistics):
    """It resizes bytes with torchvision, not with Pillow: at most 1 level of 255 (measured)."""
    steps = [v2.ToImage(), v2.Resize((256, 256), antialias=True), v2.ToDtype(torch.float32, scale=True)]
    ours, transform = known(family, (256, 256)), v2.Compose([*steps, v2.Normalize(**statistics)])
    for kind, image in PHOTOGRAPHS.items():
        theirs = transform(image).permute(1, 2, 0).numpy()
        levels = np.abs(ours(image).astype(np.float64) - theirs) * np.asarray(ours.std) * 255
        assert float(levels.max()) <= TORCHVISION_LEVELS["bilinear"], kind


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    """What parity_tests/golden/tf_image_resize.py saved: pictures as TensorFlow 2.21 resized them."""
    with np.load(FILE) as arrays:
        return dict(arrays)


def test_the_golden_picture_is_the_photograph_s(golden):
    np.testing.assert_array_equal(golden["picture"], np.asarray(photograph("china").crop(BOX)))


@pytest.mark.parametrize("name", ["smaller", "larger"])
def test_without_antialias_pixels_are_tensorflow_s_to_the_bit(golden, name):
    image, theirs = photograph("china").crop(BOX), golden[name]
    np.testing.assert_array_equal(resample(image, theirs.shape[:2], "bilinear", False, "none"), theirs)


@pytest.mark.parametrize("name", ["smaller_antialias", "smaller_antialias_bicubic"])
def test_with_antialias_pixels_are_tensorflow_s_to_float32(golden, name):
    image, theirs = photograph("china").crop(BOX), golden[name]
    ours = resample(image, theirs.shape[:2], "bicubic" if "bicubic" in name else "bilinear", True, "none")
    assert apart(ours, theirs) / 255 <= resampled(image.size)


@pytest.mark.parametrize("family", ["vit_jax", "big_vision"])
def test_google_s_evaluations_differ_by_roundings_alone(golden, family):
    image, theirs = photograph("china").crop(BOX), golden[family]
    ours = known(family, theirs.shape[:2])
    assert apart(ours(image) * np.asarray(ours.std), theirs * np.asarray(ours.std)) <= PIXEL


def test_even_areas_are_not_rounded_down():
    """Weights that sum to one less a rounding must not take a level from a blue sky."""
    from PIL import Image

    for level in range(1, 256, 7):
        sky = Image.new("L", (61, 47), level)
        for interpolation in ("bilinear", "bicubic"):
            for antialias in (True, False):
                found = resample(sky, (23, 95), interpolation, antialias, "down")
                assert (found == level).all(), (level, interpolation, antialias)


@pytest.mark.parametrize("family", [*FAMILIES, *(f"torchvision/{name}" for name in TORCHVISION)])
def test_every_family_has_every_size(family):
    for size in ((224, 224), (96, 160), (518, 518)):
        assert known(family, size).crop == size


def test_an_unknown_family_is_refused_with_those_that_are_known():
    for name in ("resnet", "torchvision/vit_b_8"):
        with pytest.raises(ValueError, match=f"'{name}'; known are vit_jax, .*torchvision/vit_b_16_swag"):
            known(name, (224, 224))


GOLDEN = Path(__file__).parent / "golden"
# Without a config beside it: how the file is opened, and whose evaluation is then known.
OPENED: dict[str, tuple[str, dict[str, Any], str]] = {
    "vit_jax": ("vision_transformer/token_published.npz", {}, "vit_jax"),
    "big_vision": ("big_vision/siglip.npz", {}, "big_vision"),
    "fixed positions": ("big_vision/gap_sincos2d_rep.npz", {"overrides": {"image_size": (20, 20)}}, "big_vision"),
    "DINOv2": ("dinov2/plain.pth", {"overrides": {"num_heads": 3}}, "dinov2"),
    "scenic": ("scenic/token.msgpack", {}, ""),  # each of its data sets has one of its own
}


@pytest.mark.parametrize(("file", "how", "family"), OPENED.values(), ids=OPENED)
def test_a_checkpoint_without_a_config_has_its_family_s_evaluation(file, how, family):
    found = open_checkpoint(GOLDEN / file, **how)
    assert found.preprocess == (known(family, found.config.image_hw) if family else None)


def test_an_evaluation_follows_the_image_size_that_is_asked_for():
    found = open_checkpoint(GOLDEN / "vision_transformer/token_published.npz", image_size=40)
    assert found.preprocess == known("vit_jax", (40, 40))


@pytest.mark.parametrize("preset", ["dino_vits16", "mae_vit_base_patch16", "vit_base_patch16_224"])
def test_a_preset_of_a_repository_brings_its_evaluation(tmp_path, preset):
    """Of bare files with timm's names; what timm's own architectures were trained on, their names don't tell."""
    config = PRESETS[preset].config
    tensors = {name: np.zeros(shape, np.float16) for name, shape in hub_shapes(config).items()}
    safetensors.numpy.save_file(tensors, tmp_path / "bare.safetensors")
    origin = PRESETS[preset].origin
    expected = None if origin == "timm" else known(origin, config.image_hw)
    assert open_checkpoint(tmp_path / "bare.safetensors", preset=preset).preprocess == expected


TRANSFORMERS_MAE = {
    "model_type": "vit_mae", "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 48, "image_size": 32,
}  # fmt: skip
TIMM_ARGS = {"img_size": 32, "embed_dim": 24, "depth": 1, "num_heads": 2, "mlp_ratio": 2}
TIMM = {"architecture": "vit_base_patch16_224", "num_classes": 0, "model_args": TIMM_ARGS}
STATISTICS = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "crop_pct": 1.0}
# Layout, the files beside the weights, and what the note names.
UNREAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "a class that isn't known": (
        "transformers:vit_mae",
        {"config.json": TRANSFORMERS_MAE, "preprocessor_config.json": {"image_processor_type": "MineImageProcessor"}},
        'preprocessor_config.json says it in a way that is not read: {"image_processor_type": "MineImageProcessor"}',
    ),
    "an option that isn't known": (
        "transformers:vit_mae",
        {
            "config.json": TRANSFORMERS_MAE,
            "processor_config.json": {
                "image_processor": {"image_processor_type": "ViTImageProcessor", "size": 32, "do_pad": True}
            },
        },
        'processor_config.json says it in a way that is not read: {"image_processor_type": "ViTImageProcessor", '
        '"size": 32, "do_pad": true}',
    ),
    "timm": (
        "timm:vit",
        {"config.json": TIMM | {"pretrained_cfg": STATISTICS | {"input_size": [3, 32, 32], "crop_mode": "border"}}},
        '"crop_mode": "border"',
    ),
}


@pytest.mark.parametrize("preset", [None, "dino_vits16", "mae_vit_base_patch16"])
@pytest.mark.parametrize(("layout", "beside", "named"), UNREAD.values(), ids=UNREAD)
def test_no_evaluation_stands_in_for_a_preprocessing_that_is_said_and_not_read(tmp_path, layout, beside, named, preset):
    config = ViTConfig(image_size=32, patch_size=16, dim=24, depth=1, num_heads=2, mlp_dim=48)
    tensors = {name: np.zeros(shape, np.float32) for name, shape in hub_shapes(config).items()}
    save_checkpoint(tmp_path / "model", config, tensors.items(), layout=layout)
    for name, content in beside.items():
        (tmp_path / "model" / name).write_text(json.dumps(content))
    # The preset is one by name alone here: its sizes are given, as for a model of another size in its repository.
    sizes = {name: getattr(config, name) for name in ("image_size", "dim", "depth", "num_heads", "mlp_dim")}
    found = open_checkpoint(tmp_path / "model", preset=preset, overrides=sizes)
    assert found.preprocess is None
    (note,) = [note for note in found.said if "how images are prepared" in note]
    assert note.startswith("how images are prepared stays unknown: ")
    assert named in note


def test_open_clip_s_preprocessing_that_is_not_read_is_said(tmp_path):
    config = ViTConfig(image_size=32, patch_size=16, dim=64, depth=1, num_heads=1, mlp_dim=128, num_classes=3)
    config = config.replace(pre_norm=True, patch_bias=False, head_bias=False, norm_eps=1e-5)
    tensors = {name: np.zeros(shape, np.float32) for name, shape in hub_shapes(config).items()}
    save_checkpoint(tmp_path / "model", config, tensors.items(), layout="open_clip:vit")
    file = tmp_path / "model" / "open_clip_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"preprocess_cfg": {"resize_mode": "longest"}}))
    found = open_checkpoint(tmp_path / "model")
    assert found.preprocess is None
    named = 'open_clip_config.json\'s preprocess_cfg says it in a way that is not read: {"resize_mode": "longest"}'
    assert found.said == (f"how images are prepared stays unknown: {named}",)


@pytest.mark.parametrize(("name", "family"), [("vit_b_16_swag-9ac1b537", "torchvision/vit_b_16_swag"), ("mine", "")])
def test_torchvision_s_files_have_the_evaluation_of_their_name(tmp_path, name, family):
    model = VisionTransformer(32, 16, 1, 2, 24, 24, num_classes=3)
    torch.save(model.state_dict(), tmp_path / f"{name}.pth")
    found = open_checkpoint(tmp_path / f"{name}.pth", overrides={"num_heads": 2})
    assert found.preprocess == (known(family, (32, 32)) if family else None)


@pytest.mark.parametrize("layout", ["timm", "open_clip"])
def test_defaults_that_a_library_would_take_for_what_is_unknown_are_said(layout):
    config = ViTConfig(
        image_size=32, patch_size=16, dim=24, depth=1, num_heads=2, mlp_dim=48, num_classes=3, head_bias=False
    )
    config = config.replace(pre_norm=True, patch_bias=False, norm_eps=1e-5)
    dtypes = dict.fromkeys(hub_shapes(config), np.float32)
    unknown = [note for note in plan_save(config, dtypes, layout).notes if "how images are prepared" in note]
    assert len(unknown) == 1
    assert not set(unknown) & set(plan_save(config, dtypes, layout, known("clip", (32, 32))).notes)
