"""Attention maps put the heat where the attention is, to the patch."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from parity_tests.compare import elementwise, gap
from parity_tests.pairs import images_for, make_pair, run_flax, run_torch
from parity_tests.tolerances import EXACT, FORWARD
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess
from vit_tools.attention.maps import attention, attention_map, last_reader, rollout, wanted
from vit_tools.attention.on_image import on_image
from vit_tools.attention.picture import COLOURS, NORMS, Seen, _show, blend, draw, draw_pairs, seen
from vit_tools.figures import new_figure, save_png

CONFIG = ViTConfig(image_size=(12, 20), patch_size=(4, 5), dim=24, depth=2, num_heads=3, mlp_dim=40, num_registers=2)


def planted(config: ViTConfig, row: int, column: int) -> np.ndarray:
    """Weights (1, 3, T, T) that all look at one patch, with half of it on the class token."""
    tokens = config.num_prefix + config.num_patches
    weights = np.zeros((1, 3, tokens, tokens))
    weights[..., 0] = 0.5
    weights[..., config.num_prefix + row * config.grid[1] + column] = 0.5
    return weights


@pytest.mark.parametrize("pool", ["class", "mean", "class_mean"])
def test_the_heat_is_on_the_patch_that_is_looked_at(pool):
    config = CONFIG.replace(pool=pool)
    heat = attention_map(planted(config, 2, 1), config)
    assert heat.shape == (1, 3, 4)
    assert heat[0, 2, 1] == 0.5
    assert heat.sum() == 0.5  # what the class token takes is missing, not spread


def test_class_pooling_shows_what_the_class_token_reads_and_no_other():
    weights = planted(CONFIG, 0, 0)
    weights[:, :, 1:] = planted(CONFIG, 2, 3)[:, :, 1:]
    assert attention_map(weights, CONFIG)[0, 0, 0] == 0.5
    assert attention_map(weights, CONFIG.replace(pool="mean"))[0, 2, 3] == 0.5


def test_heads_are_averaged():
    weights = planted(CONFIG, 1, 1)
    weights[:, 0] = 0
    assert attention_map(weights, CONFIG)[0, 1, 1] == pytest.approx(1 / 3, rel=EXACT)


def test_both_frameworks_give_the_same_map():
    config = CONFIG.replace(num_classes=7)
    ours, flax = make_pair(config)
    images, name = images_for(config), "blocks.1.attn.weights"
    theirs = attention_map(run_torch(ours, images, [name])[name], config)
    assert gap(attention_map(run_flax(flax, images, [name])[name], config), theirs) < FORWARD


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torchs_own_tensors_are_taken(dtype):
    weights = torch.tensor(planted(CONFIG, 2, 1), dtype=dtype, requires_grad=True)
    assert attention_map(weights, CONFIG)[0, 2, 1] == 0.5


def test_weights_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"must be \(B, H, 15, 15\), got \(1, 3, 14, 14\)"):
        attention_map(np.zeros((1, 3, 14, 14)), CONFIG)


def test_the_picture_is_drawn(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 20, 3), np.uint8)
    maps = np.concatenate([attention_map(planted(CONFIG, 2, i % 4), CONFIG) for i in range(5)])
    draw_pairs(images, maps, [f"image {i}" for i in range(5)], tmp_path / "attention.png")
    with Image.open(tmp_path / "attention.png") as picture:
        assert picture.size[0] > 800
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 100


def intermediates(config: ViTConfig, weights: np.ndarray) -> dict[str, np.ndarray]:
    """What a model says whose every block has these attention weights, and whose tokens have the sizes 1, 2, 3, ..."""
    tokens = np.ones((1, weights.shape[-1], config.dim)) * np.arange(1, weights.shape[-1] + 1)[None, :, None]
    found = {f"blocks.{i}.attn.weights": weights for i in range(config.depth)}
    return found | {f"blocks.{config.depth - 1}": tokens}


def test_heads_mean_prefix_and_norms_are_each_their_own():
    weights = planted(CONFIG, 1, 2)
    weights[:, 0] = planted(CONFIG, 0, 0)[:, 0]
    found = attention(intermediates(CONFIG, weights), CONFIG)
    assert found.heads[0, 0, 0, 0] == found.heads[0, 1, 1, 2] == 0.5
    assert found.heads[0, 0, 1, 2] == 0
    assert found.mean[0, 0, 0] == pytest.approx(0.5 / 3, rel=EXACT)
    assert found.mean[0, 1, 2] == pytest.approx(1 / 3, rel=EXACT)
    assert found.prefix[0] == 0.5  # the class token itself; registers would be in it too
    first = CONFIG.num_prefix + 1
    expected = np.arange(first, first + 12).reshape(3, 4) * CONFIG.dim**0.5
    assert elementwise(found.norms[0], expected) < EXACT


def test_registers_that_take_the_attention_are_shown_not_hidden():
    weights = np.zeros_like(planted(CONFIG, 0, 0))
    weights[..., 1] = 0.9  # a register
    weights[..., CONFIG.num_prefix] = 0.1
    found = attention(intermediates(CONFIG, weights), CONFIG)
    assert found.prefix[0] == pytest.approx(0.9, rel=EXACT)
    assert found.mean[0].sum() == pytest.approx(0.1, rel=EXACT)


def test_rollout_is_abnar_and_zuidemas():
    """Two layers by hand: (W1 + I) / 2 after (W0 + I) / 2."""
    random = np.random.default_rng(0)
    first, second = (w / w.sum(-1, keepdims=True) for w in random.random((2, 1, 4, 4)))
    expected = (second[0] + np.eye(4)) / 2 @ ((first[0] + np.eye(4)) / 2)
    assert elementwise(rollout([first, second])[0], expected) < EXACT
    assert rollout([first, second]).sum(-1) == pytest.approx(1, rel=EXACT)


def test_attention_pooling_is_asked_what_its_query_reads():
    config = CONFIG.replace(pool="map", class_token=False, num_registers=0)
    tokens = config.num_patches
    found = intermediates(config, np.broadcast_to(np.eye(tokens), (1, 3, tokens, tokens)))
    pool = np.zeros((1, 3, tokens))
    pool[..., 7] = 1
    seen = attention(found | {"attn_pool.weights": pool}, config)
    for heat in (seen.mean[0], seen.rollout[0], seen.heads[0, 2]):
        assert heat[1, 3] == 1
        assert heat.sum() == 1


@pytest.mark.parametrize("pool", ["class", "mean", "class_mean", "map"])
def test_one_map_alone_is_the_mean_of_all_there_is(pool: str):
    """vit-verify and vit-app draw what vit-predict draws: of attention pooling, what its query reads."""
    config = CONFIG.replace(num_classes=7, pool=pool)
    found = run_torch(make_pair(config)[0], images_for(config), list(wanted(config)))
    alone = attention_map(found[last_reader(config)], config)
    assert gap(alone, attention(found, config).mean) < EXACT
    with pytest.raises(ValueError, match=r"must be \(B, H, .*got \(1, 3, 7\)"):
        attention_map(np.zeros((1, 3, 7)), config)


@pytest.mark.parametrize("pool", ["class", "mean", "class_mean", "map"])
def test_both_frameworks_give_the_same_of_everything(pool: str):
    config = CONFIG.replace(num_classes=7, pool=pool)
    ours, flax = make_pair(config)
    images, names = images_for(config), list(wanted(config))
    theirs = attention(run_torch(ours, images, names), config)
    found = attention(run_flax(flax, images, names), config)
    for name in ("heads", "mean", "rollout", "norms"):
        assert gap(getattr(found, name), getattr(theirs, name)) < FORWARD, name


# An image, a preprocessing, and where in the image patch (row 1, column 2) of 3 x 4 lies: rows, columns.
PLACES = {
    "as it is": ((12, 20), Preprocess(resize=(12, 20), crop=(12, 20)), (slice(4, 8), slice(10, 15))),
    "squashed": ((36, 40), Preprocess(resize=(12, 20), crop=(12, 20), mode="squash"), (slice(12, 24), slice(20, 30))),
    "cropped": ((24, 60), Preprocess(resize=(24, 60), crop=(12, 20)), (slice(10, 14), slice(30, 35))),
    "resized, then cropped": (
        (32, 80),
        Preprocess(resize=(16, 40), crop=(12, 20)),
        (slice(12, 20), slice(40, 50)),
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_heat_is_on_the_pixels_that_the_patch_was_made_of(place: str):
    """To the pixel, at sizes that are not square and after a centre crop."""
    size, preprocess, (rows, columns) = PLACES[place]
    heat = np.zeros((3, 4))
    heat[1, 2] = 1
    found = on_image(heat, preprocess, size)
    expected = np.zeros(size)
    expected[rows, columns] = 1
    np.testing.assert_array_equal(np.nan_to_num(found), expected)


@pytest.mark.parametrize("place", PLACES)
def test_on_a_smaller_picture_the_heat_is_where_it_is_on_the_image(place: str):
    """A picture of a third has the middle pixel of each three by three."""
    size, preprocess, _ = PLACES[place]
    large, heat = (3 * size[0], 3 * size[1]), np.arange(12.0).reshape(3, 4)
    found = on_image(heat, preprocess, large, size)
    np.testing.assert_array_equal(found, on_image(heat, preprocess, large)[1::3, 1::3])


def drawn_on(cell: Any, png: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels (height, width, 3) of an image of that size that a PNG has where the cell is: the middle of each."""
    box = cell.get_window_extent()
    y = len(png) - box.y1 + (np.arange(size[0]) + 0.5) * box.height / size[0]
    x = box.x0 + (np.arange(size[1]) + 0.5) * box.width / size[1]
    return png[np.ix_(y.astype(int), x.astype(int))]


def test_the_picture_shows_each_map_on_the_pixels_it_belongs_to(tmp_path, monkeypatch):
    """A photo without symmetry, of which the crop leaves parts out: what is drawn is `blend` of `on_image`, neither
    mirrored nor moved, over one scale for all heads; and so are the PNG's own pixels."""
    config = CONFIG.replace(num_registers=0)
    found = attention(intermediates(config, planted(config, 2, 0)), config)
    rows, columns = np.arange(18)[:, None], np.arange(36)[None, :]
    pixels = np.stack(np.broadcast_arrays(rows * 14, columns * 7, 40 + 0 * rows), -1).astype(np.uint8)
    photo, cropped = seen(pixels, "photo"), Preprocess(resize=(18, 36), crop=(12, 20))
    cells: list[Any] = []

    def show(cell: Any, *more: Any) -> None:
        cells.append(cell)
        _show(cell, *more)

    monkeypatch.setattr("vit_tools.attention.picture._show", show)
    draw([photo], found, cropped, tmp_path / "heat.png")
    even, heads = found.mean[0].size, found.heads[0]
    maps = [(found.mean[0] * even, None), (found.rollout[0] * even, None), (found.norms[0], NORMS)]
    expected = [pixels]
    for heat, colours in [*maps, *((head * even, None) for head in heads)]:
        spread = on_image(heat, cropped, (18, 36))
        highest = float(heads.max() * even) if len(expected) > len(maps) else float(heat.max())
        expected.append(np.round(blend(pixels, spread, highest, colours or COLOURS) * 255).astype(np.uint8))
    with Image.open(tmp_path / "heat.png") as picture:
        png = np.asarray(picture.convert("RGB"))
    shown = [drawn_on(cell, png, (18, 36)) for cell in cells]
    assert len(shown) == len(expected) == 1 + 3 + config.num_heads
    for i, (ours, theirs) in enumerate(zip(shown, expected, strict=True)):
        np.testing.assert_array_equal(ours, theirs, err_msg=f"panel {i}")
        assert not np.array_equal(ours, ours[::-1])
        assert not np.array_equal(ours, ours[:, ::-1])
    # Patch (2, 0) of 3 x 4 is the crop's lower left: rows 11 to 14 of 18, columns 8 to 12 of 36.
    warm = shown[1].astype(int)[..., 0] - shown[1][..., 2]
    assert (warm[11:15, 8:13] > np.delete(warm, np.s_[8:13], 1).max()).all()


@pytest.mark.slow
def test_a_picture_of_a_big_photo_takes_no_memory_of_its_size(tmp_path):
    """One map of 3000 x 4000 pixels in float64 is 96 MB, and its colours are three of them."""
    config = CONFIG.replace(num_registers=0)
    found = attention(intermediates(config, planted(config, 1, 2)), config)
    big, whole = np.zeros((3000, 4000, 3), np.uint8), Preprocess(resize=(12, 20), crop=(12, 20))
    save_png(new_figure(1, 1), tmp_path / "first.png")  # what is loaded once, is
    tracemalloc.start()
    try:
        draw([seen(big, "big")], found, whole, tmp_path / "heat.png")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 96e6 / 2


@pytest.mark.parametrize("place", PLACES)
def test_the_pixels_of_a_patch_are_those_that_change_it(place: str):
    """The same by the preprocessing itself: a patch's pixels, all others black."""
    size, preprocess, (rows, columns) = PLACES[place]
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[rows, columns] = 255
    seen = preprocess.pixels(Image.fromarray(pixels)).mean(-1).reshape(3, 4, 4, 5).transpose(0, 2, 1, 3).mean((2, 3))
    assert seen[1, 2] > 150
    others = np.delete(seen.ravel(), 6)
    assert others.max() < 70


def test_what_the_crop_left_out_has_no_heat():
    preprocess = Preprocess(resize=(24, 60), crop=(12, 20))
    found = on_image(np.ones((3, 4)), preprocess, (24, 60))
    assert np.isfinite(found).sum() == 12 * 20
    assert np.isfinite(found[6:18, 20:40]).all()
    shown = blend(np.full((24, 60, 3), 200, np.uint8), found, 1.0)
    assert shown.shape == (24, 60, 3)
    assert (shown[0, 0] == shown[0, 0, 0]).all()  # grey
    assert shown[12, 30].max() - shown[12, 30].min() > 0.2


@pytest.mark.parametrize("count", [1, 3])
def test_images_of_several_sizes_are_drawn_in_their_own_shape(tmp_path, count: int):
    ours, _ = make_pair(CONFIG)
    found = attention(run_torch(ours, images_for(CONFIG, batch=count), list(wanted(CONFIG))), CONFIG)
    random = np.random.default_rng(0)
    pixels = [random.integers(0, 256, (40 + 30 * i, 60, 3)).astype(np.uint8) for i in range(count)]
    images = [Seen(each, f"$ {i} \udce9") for i, each in enumerate(pixels)]
    draw(images, found, Preprocess(resize=(12, 20), crop=(12, 20)), tmp_path / "attention.png")
    with Image.open(tmp_path / "attention.png") as picture:
        assert picture.format == "PNG"
    assert list(tmp_path.iterdir()) == [tmp_path / "attention.png"]
