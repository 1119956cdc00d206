"""A small checkpoint and a few photographs, and vit-predict asked about them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vit_torch
from parity_tests.datasets import encoded, picture
from parity_tests.pairs import randomise
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess
from vit_tools.predict.command import main

CONFIG = ViTConfig(image_size=(16, 24), patch_size=8, dim=24, depth=2, num_heads=3, mlp_dim=40, num_classes=7)
PREPROCESS = Preprocess(resize=(18, 26), crop=(16, 24), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
LABELS = ("cat", "dog", 'a "quoted", name', "été", "bird", "fish", "$ign")


def make(path: Path, config: ViTConfig = CONFIG, labels: tuple[str, ...] | None = LABELS) -> vit_torch.ViT:
    model = vit_torch.ViT(config)
    randomise(model, 0)
    model.save_pretrained(path, preprocess=PREPROCESS, labels=labels)
    return model


def make_folder(root: Path) -> Path:
    """checkpoint/, and photos/ with five pictures of several sizes and kinds."""
    make(root / "checkpoint")
    (root / "photos" / "deep").mkdir(parents=True)
    for i, (name, kind) in enumerate(
        [("a.jpg", "JPEG"), ("b.PNG", "PNG"), ("c.webp", "WEBP"), ("deep/d.jpeg", "JPEG")]
    ):
        (root / "photos" / name).write_bytes(encoded(picture(i, (40 + 9 * i, 60 - 7 * i)), kind))
    (root / "photos" / "e.png").write_bytes(encoded(picture(9).convert("L"), "PNG"))
    (root / "photos" / "notes.txt").write_text("no image")
    return root


def by_hand(path: str, checkpoint: Path) -> np.ndarray:
    """The probabilities of one image, through the model itself."""
    model = vit_torch.ViT.from_pretrained(checkpoint)
    assert model.preprocess is not None
    with Image.open(path) as opened:
        x = torch.tensor(model.preprocess(opened)).permute(2, 0, 1)[None]
    with torch.no_grad():
        return model(x).softmax(-1)[0].double().numpy()


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err
