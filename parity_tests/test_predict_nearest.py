"""vit-predict finds the nearest images, and counts what the k nearest get right."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from parity_tests.datasets import encoded, picture, write_folder, write_tfds
from parity_tests.predicting import CONFIG, make, make_folder, said
from parity_tests.tolerances import FLOAT32
from vit_tools.images import find_images
from vit_tools.nearest import knn_predictions, nearest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("predict"))


def test_nearest_finds_the_image_itself_and_draws_it(folder: Path, tmp_path: Path, capsys):
    out, photos = tmp_path / "near.png", folder / "photos"
    options = ["--nearest", photos, "--nearest-png", out, "--neighbours", 3]
    code, text, _ = said(capsys, photos / "b.PNG", "--checkpoint", folder / "checkpoint", *options, "--top", 1)
    assert code == 0
    lines = text.splitlines()[-3:]
    assert lines[0].split() == ["1.0000", str(photos / "b.PNG")]
    cosines = [float(line.split()[0]) for line in lines]
    assert cosines == sorted(cosines, reverse=True)
    with Image.open(out) as drawn:
        assert drawn.size[0] > 500


def test_json_is_all_that_is_printed_with_neighbours_and_knn(folder: Path, tmp_path: Path, capsys):
    photos, where = folder / "photos", folder / "checkpoint"
    make(tmp_path / "headless", CONFIG.replace(num_classes=0), None)
    asked = ["--nearest", photos, "--neighbours", 2]
    words = said(capsys, photos, "--checkpoint", tmp_path / "headless", *asked)[1].splitlines()
    for checkpoint, more in ((where, {"classes"}), (tmp_path / "headless", set())):
        code, out, _ = said(capsys, photos, "--checkpoint", checkpoint, *asked, "--json")
        assert code == 0
        rows = [json.loads(line) for line in out.splitlines()]
        assert [row["image"] for row in rows] == find_images([str(photos)])
        assert all(row.keys() == {"image", "nearest"} | more for row in rows)
    for i, row in enumerate(rows):
        found = [f"  {near['cosine']:.4f}  {near['path']}" for near in row["nearest"]]
        assert [row["image"], *found] == words[3 * i : 3 * i + 3]
    write_folder(tmp_path / "all", [(encoded(picture(i)), i % 2) for i in range(6)])
    knn = ["--knn", tmp_path / "all", tmp_path / "all", "--k", 1, "--json"]
    code, out, _ = said(capsys, "--checkpoint", where, *knn)
    assert code == 0
    assert json.loads(out) == {"k": 1, "accuracy": 1.0, "right": 6, "of": 6, "train": 6, "classes": 2}


def test_k_nearest_vote_by_their_cosine():
    gallery = np.array([[1, 0], [0.8, 0.6], [0, 1], [0, 1]], np.float32)
    labels = np.array([0, 1, 1, 2])
    order, cosines = nearest(np.array([[1, 0]], np.float32), gallery, 2)
    assert order.tolist() == [[0, 1]]
    assert cosines[0] == pytest.approx([1, 0.8], rel=FLOAT32)
    assert knn_predictions(np.array([[1, 0], [0, 1]], np.float32), gallery, labels, 2).tolist() == [0, 1]


def test_the_nearest_are_those_of_a_stable_sort_whatever_is_equal():
    rng = np.random.default_rng(0)
    queries, gallery = (rng.integers(-1, 2, (n, 3)).astype(np.float32) for n in (600, 40))
    cosines = queries @ gallery.T
    for count in (1, 7, 40, 99):
        order, found = nearest(queries, gallery, count)
        expected = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        assert np.array_equal(order, expected)
        assert np.array_equal(found, np.take_along_axis(cosines, expected, 1))


def test_the_classes_of_knn_are_the_first_folders(folder: Path, tmp_path: Path, capsys):
    """However deep an image lies; and one that lies in none has no class."""
    for i in range(6):
        at = tmp_path / "all" / f"class{i % 2}" / f"part{i}" / f"{i}.jpg"
        at.parent.mkdir(parents=True)
        at.write_bytes(encoded(picture(i)))
    asked = ("--checkpoint", folder / "checkpoint", "--knn", tmp_path / "all", tmp_path / "all", "--k", 1)
    code, out, _ = said(capsys, *asked)
    assert (code, out) == (0, "k-NN, k = 1: 100.00% (6 of 6, by 6 images of 2 classes)\n")
    (tmp_path / "all" / "loose.jpg").write_bytes(encoded(picture(9)))
    code, out, error = said(capsys, *asked)
    assert (code, out) == (2, "")
    assert f"{tmp_path}/all/loose.jpg lies in no folder of a class" in error


def test_a_split_without_labels_is_one_message(folder: Path, tmp_path: Path, capsys):
    write_tfds(tmp_path, {"train": [(encoded(picture(i), "PNG"), i % 2 - 1) for i in range(2)]})
    given = ("--knn", "tfds:written/train", "tfds:written/train", "--data-dir", tmp_path)
    code, out, error = said(capsys, "--checkpoint", folder / "checkpoint", *given)
    assert (code, out) == (2, "")
    assert "example 0 has the label -1, that is, none" in error
    assert error.count("\n") == 1


def test_knn_counts_what_the_neighbours_get_right(folder: Path, tmp_path: Path, capsys):
    """The test images are the training images: the nearest of each is itself."""
    for i in range(6):
        at = tmp_path / f"class{i % 2}" / f"{i}.jpg"
        at.parent.mkdir(exist_ok=True)
        at.write_bytes(encoded(picture(i)))
    code, out, _ = said(capsys, "--checkpoint", folder / "checkpoint", "--knn", tmp_path, tmp_path, "--k", 1)
    assert code == 0
    assert out == "k-NN, k = 1: 100.00% (6 of 6, by 6 images of 2 classes)\n"


def test_knn_takes_splits_of_tfds_and_folders_alike(folder: Path, tmp_path: Path, capsys):
    """The same PNG files, as a dataset and as a folder."""
    examples = [(encoded(picture(i), "PNG"), i % 2) for i in range(9)]
    write_tfds(tmp_path / "tfds", {"train": examples[:6], "test": examples[6:]})
    for split, part in (("train", examples[:6]), ("test", examples[6:])):
        write_folder(tmp_path / split, part, "png")
    asked = ("--checkpoint", folder / "checkpoint", "--k", 2)
    given = ("--knn", "tfds:written/train", "tfds:written/test", "--data-dir", tmp_path / "tfds")
    code, out, _ = said(capsys, *asked, *given)
    assert code == 0
    assert out.endswith("of 3, by 6 images of 2 classes)\n")
    assert said(capsys, *asked, "--knn", tmp_path / "train", tmp_path / "test")[1] == out


def test_what_tfds_cannot_decode_is_said_and_left_out(folder: Path, tmp_path: Path, capsys):
    """Of a dataset as of a folder; the others are answered, and the code is that of an unreadable image."""
    whole = [(encoded(picture(i), "PNG"), i % 2) for i in range(4)]
    write_tfds(tmp_path, {"train": [*whole[:2], (whole[2][0][:200], 0), *whole[3:]]})
    given = ("--knn", "tfds:written/train", "tfds:written/train", "--data-dir", tmp_path, "--k", 1)
    code, out, error = said(capsys, "--checkpoint", folder / "checkpoint", *given)
    assert code == 1
    assert out == "k-NN, k = 1: 100.00% (3 of 3, by 3 images of 2 classes)\n"
    assert error.count("tfds:written/train: example 2") == 2
    assert error.count("TFDS can't decode it: ") == 2


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("tfds:written", "names no split: expected tfds:NAME/SPLIT"),
        ("tfds:written/valid", "TFDS says: Unknown split 'valid'. Should be one of ['train']"),
        ("tfds:gone/train", "TFDS says: "),
    ],
)
def test_a_split_that_is_not_there_is_one_message(folder: Path, tmp_path: Path, capsys, named: str, message: str):
    write_tfds(tmp_path, {"train": [(encoded(picture(0), "PNG"), 0)]})
    given = ("--knn", named, "tfds:written/train", "--data-dir", tmp_path)
    code, out, error = said(capsys, "--checkpoint", folder / "checkpoint", *given)
    assert (code, out) == (2, "")
    assert message in error
    assert error.count("\n") == 1
