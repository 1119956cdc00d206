"""vit-predict lays what the model looked at over the image, and writes it for every pixel."""

import re
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

import vit_torch
from parity_tests.compare import gap
from parity_tests.predicting import CONFIG, PREPROCESS, make, make_folder, said
from parity_tests.tolerances import FLOAT32, FLOAT32_CHAIN
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess
from vit_tools.attention.maps import Attention
from vit_tools.attention.on_image import on_image
from vit_tools.attention.picture import MOST, seen
from vit_tools.npz import write_npz
from vit_tools.predict.command import make_parser
from vit_tools.predict.tasks import Kept, attention_arrays


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("predict"))


def test_attention_npz_has_the_maps_and_the_heat_on_each_image(folder: Path, tmp_path: Path, capsys):
    where, names = folder / "checkpoint", ["a.jpg", "c.webp"]
    images = [folder / "photos" / name for name in names]
    options = ["--attention", tmp_path / "heat.png", "--attention-npz"]
    both = {}
    for framework in ("torch", "flax"):
        out = tmp_path / f"{framework}.npz"
        code, *_ = said(capsys, *images, "--checkpoint", where, *options, out, "--framework", framework)
        assert code == 0
        with np.load(out, allow_pickle=False) as arrays:
            both[framework] = dict(arrays)
    found = both["torch"]
    assert found["heads"].shape == (2, 3, 2, 3)
    assert found["mean"] == pytest.approx(found["heads"].mean(1), rel=FLOAT32)
    assert found["mean"].sum((1, 2)) + found["prefix"] == pytest.approx(1, abs=FLOAT32)
    with Image.open(images[1]) as opened:
        assert found["image_1"].shape == (opened.height, opened.width)
    assert np.nanmax(found["image_1"]) == found["mean"][1].max()
    for name in ("heads", "mean", "rollout", "norms", "prefix"):
        assert gap(both["flax"][name], found[name]) < FLOAT32_CHAIN
    with Image.open(tmp_path / "heat.png") as drawn:
        assert drawn.size[0] > 600


@pytest.mark.parametrize("labelled", [True, False])
def test_a_long_name_is_not_printed_over_the_next_panel(
    folder: Path, tmp_path: Path, monkeypatch, capsys, labelled: bool
):
    """A label's, of ImageNet's own, or of a model without labels a file's; the probability stays."""
    long = "American Staffordshire terrier, Staffordshire terrier, American pit bull terrier, pit bull terrier"
    config = CONFIG if labelled else replace(CONFIG, num_classes=0)
    make(tmp_path / "checkpoint", config, (long,) * CONFIG.num_classes if labelled else None)
    photo = shutil.copy(folder / "photos" / "a.jpg", tmp_path / f"{long}.jpg")
    drawn: list[Any] = []
    monkeypatch.setattr("vit_tools.attention.picture.save_png", lambda figure, _: drawn.append(figure))
    code, _, err = said(capsys, photo, "--checkpoint", tmp_path / "checkpoint", "--attention", tmp_path / "heat.png")
    assert (code, err) == (0, "")
    drawn[0].canvas.draw()
    titles = [
        next(t for t in cell.findobj(Text) if t.get_text() == cell.get_title("left")) for cell in drawn[0].axes[:2]
    ]
    first, second = (title.get_window_extent() for title in titles)
    assert first.x1 < second.x0
    expected = r"American Staffordshire terrie?… \d+%" if labelled else "American Staffordshire terrier, S…"
    assert re.fullmatch(expected, titles[0].get_text())


@pytest.mark.parametrize("option", ["attention", "nearest-png"])
def test_more_images_than_one_picture_shows_are_refused_before_the_work(tmp_path: Path, capsys, option: str):
    for i in range(65):
        (tmp_path / f"{i}.jpg").touch()
    given = [tmp_path, "--checkpoint", "gone", "--nearest", tmp_path, f"--{option}", tmp_path / "heat.png"]
    code, out, err = said(capsys, *given)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"--{option}: one picture shows up to 64 images, got 65: name fewer, or ask for --" in err
    assert "--attention PNG" in (text := make_parser().format_help())
    assert f"a row an image (up to {MOST})" in " ".join(text.split())


def test_of_a_big_photo_nothing_of_its_size_is_kept_for_a_picture():
    pixels = np.zeros((3000, 4000, 3), np.uint8)
    kept = seen(pixels, "big")
    assert (kept.size, kept.pixels.shape) == ((3000, 4000), (450, 600, 3))
    assert not np.shares_memory(kept.pixels, pixels)
    assert seen(pixels[:400, :600], "small").pixels.shape == (400, 600, 3)


def test_the_maps_of_many_photos_are_written_one_at_a_time(tmp_path: Path):
    """Twelve of 4 MB each: np.savez would hold them all."""
    kept, rows = Kept(), np.arange(12 * 6.0).reshape(12, 2, 3)
    kept.paths, kept.sizes = [f"{i}.jpg" for i in range(12)], [(500, 1000)] * 12
    kept._attention = [Attention(rows[:, None], rows, rows, rows, np.zeros(12))]
    tracemalloc.start()
    try:
        write_npz(tmp_path / "maps.npz", attention_arrays(kept, PREPROCESS))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * 500 * 1000 * 8
    with np.load(tmp_path / "maps.npz", allow_pickle=False) as arrays:
        assert list(arrays)[:7] == ["heads", "mean", "rollout", "norms", "prefix", "paths", "image_0"]
        assert np.array_equal(arrays["image_11"], on_image(rows[11], PREPROCESS, (500, 1000)), equal_nan=True)
        assert arrays["paths"].tolist() == kept.paths
    assert list(tmp_path.iterdir()) == [tmp_path / "maps.npz"]


@pytest.mark.parametrize("framework", ["torch", "flax"])
@pytest.mark.parametrize("pool", ["class", "mean", "map"])
def test_a_model_that_looks_for_red_is_seen_to_look_at_the_red_pixels(
    tmp_path: Path, capsys, framework: str, pool: Any
):
    """Every query asks for the first channel, which is red less green; the red that the crop leaves out is no part."""
    small: dict[str, Any] = dict(image_size=16, patch_size=8, dim=8, depth=1, num_heads=1, mlp_dim=8, num_classes=2)
    model = vit_torch.ViT(ViTConfig(**small, pool=pool, class_token=pool == "class", pos_embed="none"))
    state = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    key = "blocks.0.attn.qkv", 8
    if pool == "map":  # its query is one of the model's own
        state["norm.weight"] += 1
        state["attn_pool.q.bias"][0] = 1000.0
        key = "attn_pool.k", 0
    else:
        state["blocks.0.norm1.weight"] += 1
        state["blocks.0.attn.qkv.bias"][0] = 1000.0
    state[f"{key[0]}.weight"][key[1], 0] = 1.0
    for channel, sign in ((0, 1), (1, -1)):  # its mean is zero, so that the norm keeps the sign
        state["patch_embed.proj.weight"][channel, 0] = sign
        state["patch_embed.proj.weight"][channel, 1] = -sign
    model.load_state_dict(state)
    unscaled = Preprocess(resize=(16, 16), crop=(16, 16), mean=(0, 0, 0), std=(1, 1, 1), mode="shortest")
    model.save_pretrained(tmp_path / "red", preprocess=unscaled)
    pixels = np.full((16, 40, 3), 90, np.uint8)
    pixels[:8, 20:28] = pixels[:, :12] = (250, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "red.png")
    asked = ["--checkpoint", tmp_path / "red", "--attention-npz", tmp_path / "a.npz", "--framework", framework]
    assert said(capsys, tmp_path / "red.png", *asked)[0] == 0
    expected = np.full((16, 40), np.nan)
    expected[:, 12:28] = 0
    expected[:8, 20:28] = 1
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["image_0"] == pytest.approx(expected, abs=FLOAT32, nan_ok=True)
