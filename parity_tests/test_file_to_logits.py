"""From a picture's file to logits: ours, in both frameworks, and the library whose checkpoint it is."""

import json
from functools import partial
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

import vit_flax
import vit_torch
from parity_tests.compare import gap
from parity_tests.pairs import randomise, run_flax, run_torch
from parity_tests.photographs import path_of, photograph
from parity_tests.tolerances import FORWARD
from vit_convert.processors import transformers as hf

SIZES: Any = dict(image_size=48, patch_size=8, hidden_size=36, num_hidden_layers=2, num_attention_heads=3)
PROCESSORS = {
    "squash": ("ViTImageProcessor", {"size": 48}),
    "margin": ("DeiTImageProcessor", {"size": 55, "crop_size": 48}),
    "shortest edge": ("CLIPImageProcessor", {"size": {"shortest_edge": 53}, "crop_size": 48}),
}


def picture_files(folder):
    """The two photographs as people have them, a PNG with transparency among them."""
    clear = photograph("flower")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(folder / "clear.png")
    photograph("flower").rotate(90, expand=True).save(folder / "portrait.jpg", quality=90)
    with path_of("china") as china:
        (folder / "china.jpg").write_bytes(china.read_bytes())
    return sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))


def predictors(path):
    """A checkpoint in PyTorch and in Flax: each makes float64 logits of a picture's file."""
    pairs: Any = ((vit_torch.ViT, run_torch), (vit_flax.ViT, run_flax))
    return [partial(predict, model.from_pretrained(path), run) for model, run in pairs]


def predict(model, run, file):
    return run(model, model.preprocess(Image.open(file))[None].astype(np.float64))["output"]


@pytest.mark.parametrize(("name", "settings"), PROCESSORS.values(), ids=PROCESSORS.keys())
def test_transformers_predicts_the_same_from_a_file(tmp_path, name, settings):
    theirs = transformers.ViTForImageClassification(transformers.ViTConfig(**SIZES)).double().eval()
    randomise(theirs, seed=1)
    theirs.save_pretrained(tmp_path / "model")
    getattr(transformers, name)(**settings).save_pretrained(tmp_path / "model")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "model", backend="pil")
    ours = predictors(tmp_path / "model")
    for file in picture_files(tmp_path):
        if file.suffix == ".png" and not processor.do_convert_rgb:
            continue  # transformers refuses it
        pixels = torch.tensor(processor(Image.open(file), return_tensors="np")["pixel_values"]).double()
        expected = theirs(pixels).logits.detach().numpy()
        for logits in ours:
            assert gap(logits(file), expected) < FORWARD, file.name


@pytest.mark.parametrize(("crop_mode", "crop_pct"), [("center", 0.9), ("squash", 1.0)])
def test_timm_predicts_the_same_from_a_file(tmp_path, crop_mode, crop_pct):
    arguments: Any = dict(img_size=48, patch_size=8, embed_dim=36, depth=2, num_heads=3)
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=5, **arguments).double().eval()
    randomise(theirs, seed=2)
    pretrained: Any = {
        "input_size": [3, 48, 48], "fixed_input_size": True, "crop_pct": crop_pct, "crop_mode": crop_mode,
        "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3, "num_classes": 5,
    }  # fmt: skip
    config = {"architecture": "vit_tiny_patch16_224", "num_classes": 5, "model_args": arguments}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "pretrained_cfg": pretrained}))
    save_file(theirs.state_dict(), tmp_path / "model" / "model.safetensors")
    transform: Any = create_transform(**resolve_data_config(pretrained_cfg=pretrained))
    ours = predictors(tmp_path / "model")
    for file in picture_files(tmp_path):
        expected = theirs(transform(Image.open(file).convert("RGB"))[None].double()).detach().numpy()
        for logits in ours:
            assert gap(logits(file), expected) < FORWARD, file.name


def test_a_converted_checkpoint_predicts_the_same_from_a_file(tmp_path):
    """transformers to timm and back: the processor arrives with the weights."""
    theirs = transformers.ViTForImageClassification(transformers.ViTConfig(**SIZES, layer_norm_eps=1e-6)).double()
    randomise(theirs, seed=3)
    theirs.save_pretrained(tmp_path / "first")
    transformers.ViTImageProcessor(size=48, resample=3).save_pretrained(tmp_path / "first")
    vit_torch.ViT.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "timm", layout="timm")
    vit_flax.ViT.from_pretrained(tmp_path / "timm").save_pretrained(tmp_path / "back", layout="transformers")
    processor = json.loads((tmp_path / "back" / hf.FILE).read_text(encoding="utf-8"))
    assert hf.read(processor) == hf.read(json.loads((tmp_path / "first" / hf.FILE).read_text(encoding="utf-8")))
    file = picture_files(tmp_path)[0]
    for first, back in zip(predictors(tmp_path / "first"), predictors(tmp_path / "back"), strict=True):
        assert gap(back(file), first(file)) < FORWARD
