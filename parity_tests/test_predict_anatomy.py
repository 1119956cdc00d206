"""vit-predict shows a model's patch filters and positions, from the file alone."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vit_torch
from parity_tests.predicting import CONFIG, make_folder, said
from parity_tests.tolerances import EXACT, FLOAT32
from vit_tools.anatomy import position_similarity, principal_filters
from vit_tools.predict import command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("predict"))


def test_anatomy_shows_filters_and_positions(folder: Path, tmp_path: Path, capsys):
    code, *_ = said(capsys, "--checkpoint", folder / "checkpoint", "--anatomy", tmp_path / "anatomy.png")
    assert code == 0
    with Image.open(tmp_path / "anatomy.png") as drawn:
        assert drawn.size[0] > 900
    state: dict[str, Any] = dict(vit_torch.ViT.from_pretrained(folder / "checkpoint").state_dict())
    similar = position_similarity(state["pos_embed"].numpy(), CONFIG)
    assert similar.shape == (2, 3, 2, 3)
    assert similar[1, 2, 1, 2] == pytest.approx(1, rel=FLOAT32)
    a, b = state["pos_embed"][0, 1].double(), state["pos_embed"][0, 6].double()
    assert similar[0, 0, 1, 2] == pytest.approx(float(torch.nn.functional.cosine_similarity(a, b, dim=0)), rel=FLOAT32)


def test_anatomy_alone_needs_no_framework_and_no_preprocessing(folder: Path, tmp_path: Path, monkeypatch, capsys):
    """It is drawn of the checkpoint's tensors, before a model is loaded for what else is asked for."""
    out, find = tmp_path / "anatomy.png", importlib.util.find_spec
    vit_torch.ViT(CONFIG).save_pretrained(tmp_path / "bare")
    asked = ["--checkpoint", tmp_path / "bare", "--anatomy", out]
    code, _, err = said(capsys, folder / "photos" / "a.jpg", *asked)
    assert code == 2
    assert "nothing tells how images become the input of" in err
    drawn = out.read_bytes()
    out.unlink()
    monkeypatch.setattr(command, "find_spec", lambda name: find(name) if name == "matplotlib" else None)
    monkeypatch.setattr("vit_tools.model.load", lambda *_, **__: pytest.fail("a model was loaded"))
    assert said(capsys, *asked) == (0, "", "")
    assert out.read_bytes() == drawn


@pytest.mark.parametrize("name", ["patch_embed.proj.weight", "pos_embed"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_anatomy_of_weights_that_are_no_numbers_is_one_message(tmp_path: Path, capsys, name: str, value: float):
    model = vit_torch.ViT(CONFIG)
    weights = model.state_dict()[name]
    weights.view(-1)[:2] = value
    model.save_pretrained(tmp_path / "checkpoint")
    code, out, err = said(capsys, "--checkpoint", tmp_path / "checkpoint", "--anatomy", tmp_path / "anatomy.png")
    assert (code, out) == (2, "")
    count = f"2 of {weights.numel():,} values are NaN or infinite"
    assert err == f"vit-predict: error: {name}: {count}: nothing to draw\n"
    assert not (tmp_path / "anatomy.png").exists()


def test_principal_filters_are_those_of_the_kernels_covariance():
    """A kernel that is one pattern at several strengths has that pattern as its first component."""
    pattern = np.zeros((3, 4, 4))
    pattern[:, 1] = 1
    kernel = np.arange(8)[:, None, None, None] * pattern
    first = principal_filters(kernel, 1)[0]
    assert first.shape == (4, 4, 3)
    assert (first[1] == 1).all()
    assert first[[0, 2, 3]].max() < EXACT
