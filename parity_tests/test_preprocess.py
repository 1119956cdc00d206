"""Preprocessing: the pixels that timm's and transformers' own pipelines give, and integer sizes that never round."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from parity_tests.compare import apart
from parity_tests.strategies import preprocesses
from parity_tests.tolerances import FLOAT32
from vit_convert.config import ViTConfig
from vit_convert.layouts import LAYOUTS
from vit_convert.preprocess import Preprocess
from vit_convert.processors import NEAR

PLAIN = Preprocess(resize=(24, 24), crop=(20, 20))
CONFIG = ViTConfig(image_size=4, patch_size=2, dim=24, depth=1, num_heads=3, mlp_dim=40, norm_eps=1e-6)


def from_timm(pretrained_cfg):
    config = {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": pretrained_cfg}
    return LAYOUTS["timm:vit"].read(config, lambda name: None).preprocess


def from_transformers(processor):
    return (
        LAYOUTS["transformers:vit"].read({"model_type": "vit"}, {"preprocessor_config.json": processor}.get).preprocess
    )


def picture(height=45, width=31):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("size", [(45, 31), (31, 45), (24, 24), (16, 90)])
@pytest.mark.parametrize(("mode", "crop_mode"), [("shortest", "center"), ("squash", "squash")])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("crop_pct", "resize"), [(0.8, 25), (0.86, 23), (1.0, 20)])
def test_pixels_are_those_of_timm_s_evaluation_pipeline(size, mode, crop_mode, interpolation, crop_pct, resize):
    from timm.data.transforms_factory import create_transform

    pretrained = {
        "input_size": [3, 20, 20], "crop_pct": crop_pct, "crop_mode": crop_mode, "interpolation": interpolation,
        "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4],
    }  # fmt: skip
    ours = from_timm(pretrained)
    assert ours is not None
    assert (ours.mode, ours.resize, ours.crop) == (mode, (resize, resize), (20, 20))
    transform: Any = create_transform(**pretrained)
    theirs = transform(picture(*size)).permute(1, 2, 0).numpy()
    assert apart(ours(picture(*size)), theirs) < FLOAT32


@pytest.mark.parametrize("resample", [2, 3])
def test_pixels_are_those_of_transformers_image_processor(resample):
    from transformers import ViTImageProcessorPil

    processor = ViTImageProcessorPil(size={"height": 20, "width": 12}, resample=resample, image_mean=[0.4, 0.5, 0.6])
    ours = from_transformers(processor.to_dict())
    assert ours is not None
    theirs = processor(picture(), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    assert apart(ours(picture()), theirs) < FLOAT32


@settings(max_examples=60)
@given(preprocesses(), st.data())
def test_what_a_layout_writes_it_reads_back_and_the_rest_it_says(preprocess, data):
    size = data.draw(st.sampled_from([preprocess.crop, (7, 11)]))
    written = LAYOUTS["timm:vit"].write(CONFIG.replace(image_size=size, patch_size=1), preprocess, None)
    read_back(preprocess, from_timm(written.files["config.json"]["pretrained_cfg"]), str(written.notes))
    written = LAYOUTS["transformers:vit"].write(CONFIG, preprocess, None)
    read_back(preprocess, from_transformers(written.files.get("preprocessor_config.json")), str(written.notes))


def read_back(preprocess, back, notes):
    if "this preprocessing" in notes:
        assert back is None
    else:
        other = {name: value for name, value in back.to_dict().items() if value != preprocess.to_dict()[name]}
        assert all(f"{name} is {value!r}" in notes for name, value in other.items())
        assert set(other) <= set(NEAR)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_without_antialias_pixels_are_torch_s(interpolation):
    options = {"resize": (20, 24), "crop": (20, 24), "mode": "squash", "mean": (0.0,) * 3, "std": (1.0,) * 3}
    ours = Preprocess(**options, interpolation=interpolation, antialias=False)(picture())
    image = torch.from_numpy(np.asarray(picture(), np.float64)).permute(2, 0, 1)[None]
    theirs = torch.nn.functional.interpolate(image, (20, 24), mode=interpolation)[0].permute(1, 2, 0).numpy()
    assert apart(ours, theirs.round().clip(0, 255) / 255) < FLOAT32


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 1), ("L", 3), ("RGBA", 3), ("RGB", 4), ("P", 3)])
def test_images_become_as_many_channels_as_the_statistics_have(mode, channels):
    preprocess = Preprocess(resize=(8, 9), crop=(8, 9), mean=(0.5,) * channels, std=(0.5,) * channels)
    pixels = preprocess(picture().convert(mode))
    assert (pixels.shape, pixels.dtype) == ((8, 9, channels), np.float32)
    assert -1 <= pixels.min() < pixels.max() <= 1


@settings(max_examples=40)
@given(preprocesses(), st.integers(1, 90), st.integers(1, 90))
def test_any_image_comes_out_in_size_and_a_dict_brings_it_back(preprocess, height, width):
    assert Preprocess.from_dict(preprocess.to_dict()) == preprocess
    assert preprocess(picture(height, width)).shape == (*preprocess.crop, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resize": (10, 24)}, r"crop \(20, 20\) is larger than resize \(10, 24\)"),
        ({"resize": (24.5, 24)}, "resize must be .* positive integers"),
        ({"mode": "longest"}, "mode must be one of shortest, squash"),
        ({"interpolation": "nearest"}, "interpolation must be one of bilinear, bicubic"),
        ({"mean": (0.5,)}, "mean and std need 1, 3 or 4 numbers each"),
        ({"std": (0.5, 0.5, 0.0)}, "std none of 0"),
        ({"mean": ("0.5",) * 3}, "mean and std need 1, 3 or 4 numbers each"),
        ({"rounding": "up"}, "rounding must be one of nearest, down, none"),
        ({"crop_offset": "ceil"}, "crop_offset must be one of round, floor"),
        ({"alpha": "black"}, "alpha must be one of drop, white"),
    ],
)
def test_nonsense_is_refused_with_the_numbers(changes, message):
    with pytest.raises(ValueError, match=message):
        Preprocess(**{**PLAIN.to_dict(), **changes})


@settings(max_examples=40)
@given(preprocesses(), st.tuples(st.integers(1, 90), st.integers(1, 90)))
def test_another_size_scales_what_is_cropped_from(preprocess, size):
    resized = preprocess.resized(size)
    assert resized.crop == size
    for axis in (0, 1):
        exact = preprocess.resize[axis] * size[axis] / preprocess.crop[axis]
        assert abs(resized.resize[axis] - exact) <= 0.5
    assert preprocess.resized(preprocess.crop) == preprocess


def test_many_image_sizes_take_no_memory():
    preprocess = Preprocess(resize=(64, 64), crop=(64, 64), mode="squash", antialias=False)
    preprocess(picture(400, 400))
    tracemalloc.start()
    for side in range(400, 460):
        preprocess(picture(side, side))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 2**20


def test_a_dict_of_something_else_is_refused():
    with pytest.raises(ValueError, match=r"knows .* got "):
        Preprocess.from_dict({"resize": (2, 2), "crop": (2, 2), "size": 3})
