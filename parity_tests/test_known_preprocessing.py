"""Preprocessing that is in code alone: torchvision's own, Meta's evaluations, Google's with TensorFlow's own pixels."""

from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torchvision import transforms as tv
from torchvision.transforms import v2

from parity_tests.golden.tf_image_resize import BOX, FILE
from parity_tests.photographs import photograph, photographs
from parity_tests.tolerances import PIXEL, POSITION, TORCHVISION_LEVELS
from vit_convert.preprocess import Preprocess
from vit_convert.processors.known import CLIP, FAMILIES, IMAGENET, SATELLITE, TORCHVISION, known
from vit_convert.resample import resample

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
        assert levels.max() <= TORCHVISION_LEVELS["bilinear"] + 255 * PIXEL, kind


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
    assert np.abs(ours.astype(np.float64) - theirs).max() / 255 <= sum(image.size) * POSITION + PIXEL


@pytest.mark.parametrize("family", ["vit_jax", "big_vision"])
def test_google_s_evaluations_differ_by_roundings_alone(golden, family):
    image, theirs = photograph("china").crop(BOX), golden[family]
    ours = known(family, theirs.shape[:2])
    assert (np.abs(ours(image).astype(np.float64) - theirs) * np.asarray(ours.std)).max() <= PIXEL


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
