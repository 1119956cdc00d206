"""Batches are a function of (seed, step): not of threads, hosts, restarts, or whether the data sit on the device."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from parity_tests.datasets import encoded, jpegs, picture, pngs, tiny_config, write_folder, write_tfds
from train.config import TrainConfig
from train.devices.placement import make_placement
from train.feed import make_feed
from train.input.batches import HostBatch
from train.input.crop import crop_draws, random_resized_box
from train.input.data import Data, open_data
from train.input.decode import resize
from train.input.shuffle import shuffled

STEPS = 7  # more than two epochs of 27 examples in batches of 8
ALL = slice(None)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of JPEGs, with corrupt ones, and a TFDS dataset of grey PNGs."""
    root = tmp_path_factory.mktemp("data")
    write_folder(root / "folder" / "train", jpegs(27))
    for number in (3, 4):
        (root / "folder" / "train" / f"class{number % 2}" / f"{number:04}.jpg").write_bytes(b"no image")
    write_folder(root / "folder" / "test", jpegs(11))
    write_tfds(root / "tfds", {"train": pngs(27), "test": pngs(11)}, shape=(16, 16, 1))
    return root


CASES: dict[str, Callable[[Path], TrainConfig]] = {
    "random_resized": lambda root: folder(root, crop="random_resized"),
    "simple": lambda root: folder(root, crop="simple", interpolation="bilinear"),
    "none": lambda root: folder(root),
    "repeated": lambda root: folder(root, crop="random_resized", repeats=3),
    "tfds": lambda root: tiny_config("written", dir=root / "tfds", channels=1, resident=False),
    "tfds, cropped": lambda root: tiny_config("written", dir=root / "tfds", channels=1, crop="random_resized"),
}


def folder(root: Path, **options: Any) -> TrainConfig:
    return tiny_config(f"folder:{root / 'folder'}", max_corrupt=0.1, **options)


def with_data(config: TrainConfig, **options: Any) -> Data:
    return open_data(replace(config, data=replace(config.data, **options)))


def batches(data: Data, start: int = 0, rows: slice = ALL) -> list[HostBatch]:
    with data.train_batches(start, STEPS, rows) as given:
        return list(given)


def digest(given: Iterable[HostBatch]) -> list[str]:
    """A hash for every batch."""
    return [hashlib.sha256(b.images.tobytes() + b.labels.tobytes()).hexdigest() for b in given]


@pytest.mark.parametrize("case", CASES)
def test_batches_do_not_depend_on_threads_or_on_how_far_ahead_they_are_made(case: str, root: Path):
    config = CASES[case](root)
    hashes = [
        digest(batches(with_data(config, threads=threads, prefetch=prefetch)))
        for threads, prefetch in ((1, 1), (2, 2), (4, 5))
    ]
    assert len(set(hashes[0])) == STEPS
    assert hashes[0] == hashes[1] == hashes[2]


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_starts_anywhere_sees_the_batches_that_it_would_have_seen(case: str, root: Path):
    data = open_data(CASES[case](root))
    hashes = digest(batches(data))
    for start in range(STEPS):
        assert digest(batches(open_data(data.config), start)) == hashes[start:]


@pytest.mark.parametrize("case", CASES)
def test_the_rows_of_four_hosts_make_the_batch_of_one(case: str, root: Path):
    whole = batches(open_data(CASES[case](root)))
    parts = [batches(open_data(CASES[case](root)), rows=slice(at, at + 2)) for at in range(0, 8, 2)]
    together = [HostBatch(*map(np.concatenate, zip(*hosts, strict=True))) for hosts in zip(*parts, strict=True)]
    assert digest(together) == digest(whole)


def test_another_seed_sees_other_batches(root: Path):
    config = CASES["random_resized"](root)
    one, other = (digest(batches(open_data(replace(config, seed=seed)))) for seed in (0, 1))
    assert not set(one) & set(other)


@pytest.mark.parametrize("name", ["folder", "tfds", "digits"])
def test_resident_and_streamed_data_give_the_step_the_same_batches(name: str, root: Path):
    """As the run feeds them, from the first step and from a later one."""
    if name == "digits":
        config = tiny_config("digits", size=8, channels=1, classes=10)
    else:
        config = CASES["none" if name == "folder" else "tfds"](root)
    placement = make_placement(config)

    def fed(resident: bool, start: int) -> list[str]:
        feed = make_feed(with_data(config, resident=resident), placement, STEPS)
        items = feed.items(start)
        found = [feed.fetch(next(items)) for _ in range(start, STEPS)]
        items.close()
        return digest(HostBatch(np.asarray(b.images), np.asarray(b.labels)) for b in found)

    assert fed(True, 0) == fed(False, 0)
    assert fed(True, 3) == fed(False, 3)


def test_a_small_set_of_the_models_size_is_resident_and_others_are_not(root: Path):
    config = CASES["tfds"](root)
    assert with_data(config, resident=None).resident
    assert not with_data(config, resident=None, crop="simple").resident
    assert not open_data(tiny_config("written", dir=root / "tfds", size=24)).resident
    assert not open_data(folder(root)).resident


def test_each_example_comes_with_its_own_label(root: Path):
    """The images of a batch are those of the split, and each has the label that was written with it."""
    config = tiny_config("digits", size=8, channels=1, classes=10)
    data = open_data(config)
    known = {image.tobytes(): label for image, label in zip(*data.whole_train[:2], strict=True)}
    for batch in batches(data):
        assert batch.images.dtype == np.uint8
        assert batch.labels.dtype == np.int32
        assert [known[image.tobytes()] for image in batch.images] == batch.labels.tolist()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("min_area", [0.08, 0.5])
@pytest.mark.parametrize("repeats", [1, 3])
def test_a_batch_holds_the_boxes_that_its_config_asks_for(
    repeats: int, min_area: float, interpolation: str, tmp_path: Path
):
    """Of images decoded by Pillow: each as often as it is repeated, its box and pixels each time other ones."""
    for split in ("train", "test"):
        colours = [(encoded(picture(i, (40 + i % 7, 50 - i % 5)), "PNG"), i % 2) for i in range(27)]
        write_folder(tmp_path / split, colours, suffix="png")
    options: dict[str, Any] = dict(
        crop="random_resized", min_area=min_area, interpolation=interpolation, repeats=repeats
    )
    data = open_data(tiny_config(f"folder:{tmp_path}", seed=5, **options))
    examples = data.train.examples(range(27))
    for step, batch in enumerate(batches(data)):
        places = [step % (27 // 8) * 8 + row for row in range(8)]
        order = shuffled(np.arange(27), 27, int(np.random.SeedSequence([5, step // (27 // 8)]).generate_state(1)[0]))
        for row, (image, label) in enumerate(zip(*batch, strict=True)):
            example = examples[order[places[row] // repeats]]
            pixels = np.asarray(Image.open(example.name).convert("RGB"))
            height, width, _ = pixels.shape
            box = random_resized_box(height, width, min_area, crop_draws(5, step, 8)[row])
            part = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
            np.testing.assert_array_equal(image, resize(part, (16, 16), interpolation))
            assert label == example.label


def test_a_batch_that_was_handed_over_is_never_written_again(root: Path):
    """JAX may keep it as it is."""
    with open_data(CASES["none"](root)).train_batches(0, STEPS, ALL) as given:
        kept = [(batch, batch.images.copy(), batch.labels.copy()) for batch in given]
    for i, (batch, images, labels) in enumerate(kept):
        assert (batch.images == images).all()
        assert (batch.labels == labels).all()
        assert not any(np.shares_memory(batch.images, other.images) for other, *_ in kept[:i])


@pytest.mark.parametrize("batch_size", [1, 4, 11, 12])
def test_evaluation_sees_every_example_once_as_the_preprocessing_says(batch_size: int, root: Path):
    data = open_data(CASES["random_resized"](root))
    with data.test_batches(batch_size, ALL) as given:
        found = list(given)
    assert all(len(b.images) == len(b.labels) == len(b.counts) == batch_size for b in found)
    counted = [(im, k) for b in found for im, k, counts in zip(*b, strict=True) if counts]
    examples = data.test.examples(range(11))
    assert [label for _, label in counted] == [example.label for example in examples]
    for (image, _), example in zip(counted, examples, strict=True):
        with Image.open(example.name) as picture:
            assert (image == data.preprocess.pixels(picture)).all()


def test_evaluation_by_four_hosts_is_that_of_one(root: Path):
    data = open_data(CASES["none"](root))

    def read(rows: slice) -> list[tuple[np.ndarray, ...]]:
        with data.test_batches(8, rows) as given:
            return [tuple(batch) for batch in given]

    parts = [read(slice(at, at + 2)) for at in range(0, 8, 2)]
    for i, whole in enumerate(read(ALL)):
        for k, array in enumerate(whole):
            assert (np.concatenate([part[i][k] for part in parts]) == array).all()
    split = data.whole_test
    assert (np.concatenate([b[0] for b in read(ALL)])[: len(split.images)] == split.images).all()


def test_the_evaluation_crop_keeps_the_share_that_was_asked_for(root: Path):
    preprocess = with_data(CASES["random_resized"](root), eval_crop=0.5).preprocess
    assert (preprocess.resize, preprocess.crop, preprocess.mode) == ((32, 32), (16, 16), "shortest")
    assert preprocess.interpolation == "bicubic"


def test_mean_and_std_are_the_training_pixels_or_imagenets(root: Path):
    measured = with_data(CASES["tfds"](root), resident=None)
    pixels = measured.whole_train.images / 255
    assert measured.preprocess.mean == (round(float(pixels.mean()), 4),)
    assert measured.preprocess.std == (round(float(pixels.std()), 4),)
    assert open_data(CASES["simple"](root)).preprocess.mean == (0.485, 0.456, 0.406)
    given = with_data(CASES["simple"](root), mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0)).preprocess
    assert (given.mean, given.std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
