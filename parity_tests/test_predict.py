"""vit-predict says what the model says, in either framework, of whatever images it is given."""

import csv
import dataclasses
import errno
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import vit_torch
from parity_tests.compare import gap
from parity_tests.datasets import encoded, picture, write_folder, write_tfds
from parity_tests.pairs import randomise
from parity_tests.tolerances import EXACT, FLOAT32, FLOAT32_CHAIN
from train.input.sources.folder import Folder as TrainedFolder
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess
from vit_tools.anatomy import position_similarity, principal_filters
from vit_tools.attention.maps import Attention
from vit_tools.attention.on_image import on_image
from vit_tools.attention.picture import MOST, seen
from vit_tools.features import run
from vit_tools.images import NoImages, Opened, as_seen, batches, find_images
from vit_tools.labelled import Folder, labelled
from vit_tools.model import Array, Found, Model
from vit_tools.nearest import knn_predictions, nearest
from vit_tools.npz import write_npz
from vit_tools.predict import command
from vit_tools.predict.answers import Answer, answer, as_csv, as_json, as_table
from vit_tools.predict.command import main, make_parser
from vit_tools.predict.tasks import Kept, answer_all, asked_of, attention_arrays

CONFIG = ViTConfig(image_size=(16, 24), patch_size=8, dim=24, depth=2, num_heads=3, mlp_dim=40, num_classes=7)
PREPROCESS = Preprocess(resize=(18, 26), crop=(16, 24), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
LABELS = ("cat", "dog", 'a "quoted", name', "été", "bird", "fish", "$ign")


def make(path: Path, config: ViTConfig = CONFIG, labels: tuple[str, ...] | None = LABELS) -> vit_torch.ViT:
    model = vit_torch.ViT(config)
    randomise(model, 0)
    model.save_pretrained(path, preprocess=PREPROCESS, labels=labels)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """checkpoint/, and photos/ with five pictures of several sizes and kinds."""
    root = tmp_path_factory.mktemp("predict")
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


@pytest.mark.parametrize("framework", ["torch", "flax"])
def test_the_labels_and_probabilities_are_the_models(folder: Path, capsys, framework: str):
    where = folder / "checkpoint"
    code, out, err = said(
        capsys,
        folder / "photos",
        "--checkpoint",
        where,
        "--framework",
        framework,
        "--json",
        "--top",
        7,
        "--batch-size",
        2,
    )
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    names = [Path(row["image"]).name for row in rows]
    assert names == ["a.jpg", "b.PNG", "c.webp", "d.jpeg", "e.png"]
    for row in rows:
        expected = by_hand(row["image"], where)
        found = {entry["label"]: entry["probability"] for entry in row["classes"]}
        assert gap([found[label] for label in LABELS], expected) < FLOAT32_CHAIN
        best = [entry["probability"] for entry in row["classes"]]
        assert best == sorted(best, reverse=True)


def test_the_table_and_csv_say_the_same_as_json():
    one = answer("a, b.jpg", np.log(np.array([0.1, 0.6, 0.3])), ("cat", 'a "dog"', "bird"), 2)
    assert one.labels == ('a "dog"', "bird")
    assert one.probabilities == pytest.approx((0.6, 0.3), rel=FLOAT32)
    assert as_table(one) == 'a, b.jpg\n   60.00%  a "dog"\n   30.00%  bird'
    rows = list(csv.reader(io.StringIO(as_csv(one))))
    assert [row[:3] for row in rows] == [["a, b.jpg", "1", 'a "dog"'], ["a, b.jpg", "2", "bird"]]
    assert [float(row[3]) for row in rows] == list(one.probabilities)
    classes = json.loads(as_json(one))["classes"]
    assert [entry["probability"] for entry in classes] == list(one.probabilities)


def test_equal_classes_come_in_their_order_and_no_more_than_there_are():
    assert answer("x", np.zeros(3), "abc", 9) == Answer("x", ("a", "b", "c"), (1 / 3,) * 3)


def test_a_corrupt_image_is_said_and_the_others_are_answered(folder: Path, tmp_path: Path, capsys):
    for i in (0, 2):
        (tmp_path / f"{i}.jpg").write_bytes(encoded(picture(i)))
    (tmp_path / "1.jpg").write_bytes(encoded(picture(1))[:500])
    (tmp_path / "3.png").write_bytes(b"<html>")
    code, out, err = said(capsys, tmp_path, "--checkpoint", folder / "checkpoint", "--csv", "--top", 1)
    assert code == 1
    assert [line.split(",")[0] for line in out.splitlines()] == ["image", f"{tmp_path}/0.jpg", f"{tmp_path}/2.jpg"]
    assert f"{tmp_path}/1.jpg: can't be read: " in err
    assert f"{tmp_path}/3.png: can't be read: no image that Pillow reads" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("more", [["--json"], ["--csv"], [], ["--json", "--nearest", "photos"]])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_of_which_the_model_says_no_number_is_said_and_the_others_are_answered(
    folder: Path, monkeypatch, capsys, more: list[str], value: float
):
    call = Model.__call__

    def ruined(model: Model, images: Array, names: Any = ()) -> tuple[Array, Found]:
        output, found = call(model, images, names)
        return np.where(np.arange(len(output))[:, None] == 1, value, output), found

    monkeypatch.setattr(Model, "__call__", ruined)
    monkeypatch.chdir(folder)
    photos = [f"photos/{name}" for name in ("a.jpg", "b.PNG", "c.webp")]
    code, out, err = said(capsys, *photos, "--checkpoint", folder / "checkpoint", *more)
    assert code == 1
    assert "vit-predict: photos/b.PNG: can't be answered: the model's output is NaN or infinite\n" in err
    assert "nan" not in out.lower()
    assert [name for name in photos if f"{name}" in out] == [photos[0], photos[2]]
    for line in out.splitlines() if "--json" in more else ():
        json.loads(line, parse_constant=pytest.fail)


def test_a_photo_that_was_taken_sideways_is_answered_upright(folder: Path, tmp_path: Path, capsys):
    """The camera's pixels with orientation 6, and the same photo turned by hand, are one image to every option."""
    upright = picture(3, (40, 60))
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be seen, turn clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "phone.png", exif=exif)
    found = []
    for name in ("upright", "phone"):
        out = tmp_path / f"{name}.npz"
        asked = ["--checkpoint", folder / "checkpoint", "--attention-npz", out, "--json"]
        code, text, _ = said(capsys, tmp_path / f"{name}.png", *asked)
        assert code == 0
        with np.load(out) as arrays:
            found.append((json.loads(text)["classes"], arrays["image_0"]))
    assert found[0][0] == found[1][0]
    assert np.array_equal(found[0][1], found[1][1], equal_nan=True)
    assert found[1][1].shape == (upright.height, upright.width)


def test_sixteen_bits_are_the_same_picture_and_floats_are_unreadable(folder: Path, tmp_path: Path, capsys):
    grey = picture(2).convert("L")
    grey.save(tmp_path / "8.png")
    Image.fromarray(np.asarray(grey, np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(np.asarray(grey, np.float32)).save(tmp_path / "float.tif")
    asked = ["--checkpoint", folder / "checkpoint", "--json"]
    code, out, err = said(capsys, *(tmp_path / name for name in ("8.png", "16.png", "float.tif")), *asked)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert rows[0]["classes"] == rows[1]["classes"]
    assert "float.tif: can't be read: pixels of mode F have no known range" in err


@pytest.mark.parametrize(("alpha", "expected"), [("white", 255), ("drop", 40)])
def test_what_is_shown_of_transparency_is_what_the_model_gets(alpha: Any, expected: int):
    clear = Image.new("RGBA", (26, 18), (40, 40, 40, 0))
    preprocess = dataclasses.replace(PREPROCESS, alpha=alpha)
    assert (as_seen(clear, preprocess) == expected).all()
    assert (preprocess.pixels(clear) == expected).all()


def test_images_are_named_by_file_folder_pattern_and_list(folder: Path, tmp_path: Path):
    photos = folder / "photos"
    assert [Path(p).name for p in find_images([str(photos)])] == ["a.jpg", "b.PNG", "c.webp", "d.jpeg", "e.png"]
    assert [Path(p).name for p in find_images([str(photos / "*.jpg"), str(photos / "e.png")])] == ["a.jpg", "e.png"]
    assert [Path(p).name for p in find_images([str(photos / "**/*.jpeg")])] == ["d.jpeg"]
    assert find_images(["-"], ["one.jpg\n", "\n", " a two.png \r\n"]) == ["one.jpg", " a two.png "]
    (tmp_path / "a[1].jpg").write_bytes(b"")
    assert find_images([str(tmp_path / "a[1].jpg")]) == [str(tmp_path / "a[1].jpg")]
    with pytest.raises(NoImages, match=r"gone.jpg: no such file or folder"):
        find_images(["gone.jpg"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoImages, match="no image is in this folder"):
        find_images([str(tmp_path / "empty")])


def test_a_folders_images_are_those_that_vit_train_takes(tmp_path: Path):
    """Linked files and folders too, hidden ones not; a link back up is not followed for ever."""
    whole, elsewhere = tmp_path / "photos" / "train", tmp_path / "elsewhere"
    names = ["cat/a.jpg", "cat/deep/b.PNG", "cat/._a.jpg", "dog/c.webp", "dog/notes.txt", ".cache/d.jpg"]
    for at in [*(whole / name for name in names), elsewhere / "e.jpg"]:
        at.parent.mkdir(parents=True, exist_ok=True)
        at.touch()
    (whole / "linked").symlink_to(elsewhere)
    (whole / "dog" / "f.jpg").symlink_to(elsewhere / "e.jpg")
    trained = TrainedFolder(f"{tmp_path}/photos", "train")
    files = {str(path): trained.class_names[label] for path, label in trained.files}
    found = labelled(str(whole))
    assert isinstance(found, Folder)
    assert {path: found.class_of(path) for path in found.paths} == files
    expected = ["cat/a.jpg", "cat/deep/b.PNG", "dog/c.webp", "dog/f.jpg", "linked/e.jpg"]
    assert found.paths == find_images([str(whole)]) == [str(whole / name) for name in expected]
    (elsewhere / "back").symlink_to(whole)
    assert find_images([str(elsewhere)]) == [
        *(str(elsewhere / "back" / name) for name in expected if not name.startswith("linked")),
        str(elsewhere / "e.jpg"),
    ]


def test_a_folder_that_cannot_be_read_is_one_message(folder: Path, monkeypatch, capsys):
    """At any depth: its images are not left out without a word."""
    listdir = os.listdir

    def forbidden(path: Any) -> list[str]:
        if Path(path).name == "deep":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", forbidden)
    code, out, err = said(capsys, folder / "photos", "--checkpoint", folder / "checkpoint")
    assert (code, out) == (2, "")
    deep = folder / "photos" / "deep"
    assert err == f"vit-predict: error: {deep}: this folder can't be read: Permission denied\n"


@pytest.mark.slow
def test_a_file_name_that_is_not_utf8_is_read_and_printed_as_it_is(folder: Path, tmp_path: Path):
    """Named, of a folder and of a list on stdin, byte for byte; of an image that can't be read too."""
    latin, broken, listed = (os.fsencode(tmp_path / name) for name in ("photos", "broken.jpg", "listed"))
    os.mkdir(latin)
    latin, listed = latin + b"/caf\xe9.jpg", listed + b" \xff.jpg"
    for i, name in enumerate((latin, listed)):
        Path(os.fsdecode(name)).write_bytes(encoded(picture(i)))
    broken = broken.replace(b"broken", b"\xfebroken")
    Path(os.fsdecode(broken)).write_bytes(b"<html>")
    command = [sys.executable, "-m", "vit_tools.predict.command", os.path.dirname(latin), broken, "-", "--csv"]
    asked = ["--checkpoint", folder / "checkpoint", "--top", "1"]
    env = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}  # as under a locale of UTF-8, not C
    done = subprocess.run([*command, *asked], input=listed + b"\n", env=env, capture_output=True)
    assert [line.split(b",")[0] for line in done.stdout.splitlines()] == [b"image", latin, listed], done.stderr
    assert done.returncode == 1
    assert b"broken.jpg: can't be read: no image that Pillow reads\n" in done.stderr
    assert b"Traceback" not in done.stderr


def test_json_is_utf8_whatever_an_image_is_called():
    for name in ("café.jpg", "caf\udce9.jpg"):
        text = as_json(Answer(name, ("été",), (1.0,)))
        assert json.loads(text.encode()) == {"image": name, "classes": [{"label": "été", "probability": 1.0}]}
    assert '"café.jpg"' in as_json(Answer("café.jpg", (), ()))


@pytest.mark.parametrize("framework", ["torch", "flax"])
@pytest.mark.parametrize("layer", [None, 0])
def test_features_are_the_models_own_tokens(folder: Path, tmp_path: Path, capsys, framework: str, layer: int | None):
    out, where = tmp_path / "features.npz", folder / "checkpoint"
    more = [] if layer is None else ["--layer", layer]
    code, *_ = said(
        capsys, folder / "photos" / "a.jpg", "--checkpoint", where, "--features", out, "--framework", framework, *more
    )
    assert code == 0
    model = vit_torch.ViT.from_pretrained(where)
    assert model.preprocess is not None
    with Image.open(folder / "photos" / "a.jpg") as opened, torch.no_grad():
        x = torch.tensor(model.preprocess(opened)).permute(2, 0, 1)[None]
        _, found = model(x, ("pooled", "norm" if layer is None else "blocks.0"))
    tokens = found["norm" if layer is None else "blocks.0"]
    with np.load(out, allow_pickle=False) as arrays:
        assert arrays["paths"].tolist() == [str(folder / "photos" / "a.jpg")]
        assert gap(arrays["pooled"], found["pooled"].numpy()) < FLOAT32_CHAIN
        assert gap(arrays["class"], tokens[:, 0].numpy()) < FLOAT32_CHAIN
        assert gap(arrays["patches"], tokens[:, 1:].numpy()) < FLOAT32_CHAIN
    assert list(tmp_path.iterdir()) == [out]


def said_of(i: int) -> Found:
    """What a model says of its image i: large tokens, half a megabyte."""
    random = np.random.default_rng(i)
    return {"pooled": random.random((24,), np.float32), "norm": random.random((7, 20_000), np.float32)}


def spooled(folder: Path, out: Path, count: int, ends: int | None = None) -> None:
    """vit-predict --features of so many images, in batches of two, with the model `said_of`; the disk is full once
    image `ends` comes."""
    seen: list[int] = []

    def call(images: Array, names: tuple[str, ...]) -> tuple[Array, Found]:
        numbers = range(len(seen), len(seen) + len(images))
        if ends in numbers:
            raise OSError(errno.ENOSPC, "No space left on device")
        seen.extend(numbers)
        found = [said_of(i) for i in numbers]
        return np.zeros((len(images), 7), np.float32), {name: np.stack([f[name] for f in found]) for name in names}

    model = Model(CONFIG.replace(final_norm="tokens"), PREPROCESS, LABELS, "torch", "x", "labels", call)
    given = ["--checkpoint", "x", "--features", str(out), "--batch-size", "2"]
    asked = asked_of(model, make_parser().parse_args(given))
    answer_all(model, [str(folder / "photos" / "a.jpg")] * count, asked, lambda bad: pytest.fail(bad.why))


def test_features_of_many_images_take_the_memory_of_a_batch(folder: Path, tmp_path: Path, capsys):
    """Eleven megabytes of them; and they are what np.save writes, byte for byte."""
    out, count = tmp_path / "features.npz", 21
    tracemalloc.start()
    try:
        spooled(folder, out, count)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * 2 * 7 * 20_000 * 4  # of a batch: as the model says it, stacked, and one before
    found = [said_of(i) for i in range(count)]
    tokens = np.stack([f["norm"] for f in found])
    expected = {"pooled": np.stack([f["pooled"] for f in found]), "class": tokens[:, 0], "patches": tokens[:, 1:]}
    with zipfile.ZipFile(out) as zipped:
        assert sorted(zipped.namelist()) == sorted(f"{name}.npy" for name in (*expected, "paths"))
        for name, array in expected.items():
            np.save(saved := io.BytesIO(), np.ascontiguousarray(array))
            assert zipped.read(f"{name}.npy") == saved.getvalue()
    assert list(tmp_path.iterdir()) == [out]


def test_features_that_end_half_way_leave_the_file_as_it_was(folder: Path, tmp_path: Path, capsys):
    out = tmp_path / "features.npz"
    for before in (None, b"of another time"):
        if before:
            out.write_bytes(before)
        with pytest.raises(OSError, match="No space left"):
            spooled(folder, out, 9, ends=4)
        assert list(tmp_path.iterdir()) == [out] * bool(before)
    assert out.read_bytes() == b"of another time"


def test_a_model_without_labels_gives_features_and_says_so_if_asked_for_labels(folder: Path, tmp_path: Path, capsys):
    make(tmp_path / "headless", CONFIG.replace(num_classes=0), None)
    image = folder / "photos" / "a.jpg"
    code, out, err = said(capsys, image, "--checkpoint", tmp_path / "headless")
    assert (code, out) == (2, "")
    assert "has no head, so there are no labels: ask for --features, --nearest or --attention" in err
    code, out, _ = said(capsys, image, "--checkpoint", tmp_path / "headless", "--features", tmp_path / "f.npz")
    assert (code, out) == (0, "")
    with np.load(tmp_path / "f.npz") as arrays:
        assert arrays["pooled"].shape == (1, 24)


def save_clip(path: Path, classifies: bool) -> transformers.PreTrainedModel:
    """A CLIP tower of transformers', with its projection or as a classifier of seven classes."""
    small: dict[str, Any] = dict(image_size=16, patch_size=8, hidden_size=24, intermediate_size=40)
    small |= dict(num_hidden_layers=2, num_attention_heads=3)
    torch.manual_seed(0)
    if classifies:
        more: dict[str, Any] = dict(num_labels=7)  # PretrainedConfig's own
        config = transformers.CLIPConfig(vision_config=small, **more)
        model: Any = transformers.CLIPForImageClassification(config)
    else:
        model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**small, projection_dim=11))
    model.save_pretrained(path)
    sizes = dict(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    (path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "CLIPImageProcessor", **sizes}))
    return model.eval()


@pytest.mark.parametrize("converted", [False, True])
def test_a_projection_is_no_answer_but_what_images_are_compared_by(
    folder: Path, tmp_path: Path, capsys, converted: bool
):
    theirs, where, photos = save_clip(tmp_path / "clip", classifies=False), tmp_path / "clip", folder / "photos"
    if converted:
        opened = vit_torch.ViT.from_pretrained(where)
        opened.save_pretrained(tmp_path / "native", preprocess=opened.preprocess)
        where = tmp_path / "native"
    code, out, err = said(capsys, photos, "--checkpoint", where)
    assert (code, out) == (2, "")
    assert "has a head that projects, not one of classes, so there are no labels: ask for" in err
    asked = ["--features", tmp_path / "f.npz", "--nearest", photos, "--neighbours", 2]
    code, out, _ = said(capsys, photos, "--checkpoint", where, *asked)
    assert code == 0
    preprocess = vit_torch.ViT.from_pretrained(where).preprocess
    assert preprocess is not None
    files = find_images([str(photos)])
    x = np.stack([preprocess(Image.open(file)) for file in files]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        expected = theirs(torch.tensor(x)).image_embeds.numpy()
    with np.load(tmp_path / "f.npz") as arrays:
        assert gap(arrays["output"], expected) < FLOAT32_CHAIN
        assert arrays["pooled"].shape == (5, 24)
    rows = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    second = np.argsort(-(rows @ rows.T), axis=1)[:, 1]
    assert [line.split()[1] for line in out.splitlines()[2::3]] == [files[i] for i in second]


def test_a_clip_that_classifies_has_labels(folder: Path, tmp_path: Path, capsys):
    theirs = save_clip(tmp_path, classifies=True)
    image = folder / "photos" / "a.jpg"
    code, out, _ = said(capsys, image, "--checkpoint", tmp_path, "--json", "--top", 7)
    assert code == 0
    preprocess = vit_torch.ViT.from_pretrained(tmp_path).preprocess
    assert preprocess is not None
    x = torch.tensor(preprocess(Image.open(image))).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = theirs(x).logits.softmax(-1)[0].numpy()
    found = {entry["label"]: entry["probability"] for entry in json.loads(out)["classes"]}
    assert gap([found[str(i)] for i in range(7)], expected) < FLOAT32_CHAIN


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


@pytest.mark.parametrize(
    ("gone", "options", "message"),
    [
        ("torch", [], "torch is not installed: pip install torch, or vit-parity[torch] (or choose the other"),
        ("jax", ["--framework", "flax"], "jax is not installed: pip install jax, or vit-parity[flax]"),
        ("matplotlib", ["--attention", "x.png"], "matplotlib is not installed: pip install matplotlib, or vit-parity"),
    ],
)
def test_what_is_not_installed_is_said_before_any_work(
    tmp_path: Path, monkeypatch, capsys, gone: str, options: list[str], message: str
):
    monkeypatch.chdir(tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == gone else find(name))
    code, out, err = said(capsys, "photo.jpg", "--checkpoint", "gone", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_full_disk_is_one_message(folder: Path, tmp_path: Path, monkeypatch, capsys):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    asked = ["--checkpoint", folder / "checkpoint", "--features", tmp_path / "f.npz"]
    code, _, err = said(capsys, folder / "photos" / "a.jpg", *asked)
    assert (code, err) == (2, "vit-predict: error: [Errno 28] No space left on device\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_command_that_is_ended_half_way_leaves_nothing_half_written(
    folder: Path, tmp_path: Path, monkeypatch, capsys, number: signal.Signals
):
    """By Ctrl-C, or `kill` or `timeout`: no traceback either."""

    def ended(*_: object, **__: object) -> None:
        assert list(tmp_path.glob(".f.npz.*"))
        os.kill(os.getpid(), number)
        time.sleep(60)  # the signal ends it

    monkeypatch.setattr(np.lib.format, "write_array", ended)
    asked = ["--checkpoint", folder / "checkpoint", "--features", tmp_path / "f.npz"]
    code, out, err = said(capsys, folder / "photos" / "a.jpg", *asked)
    assert (code, err) == (128 + number, f"vit-predict: ended by {number.name}; nothing half-written was left behind\n")
    assert out.startswith(str(folder / "photos" / "a.jpg"))
    assert not list(tmp_path.iterdir())


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


@pytest.mark.parametrize(("framework", "lengths"), [("torch", [4, 4, 1]), ("flax", [4, 4, 4]), ("one", [1])])
def test_only_flax_fills_up_a_batch_and_never_beyond_the_first(folder: Path, framework: Any, lengths: list[int]):
    """A model that says the mean of each image, and how many it was given."""
    given: list[int] = []

    def call(images: Array, names: tuple[str, ...]) -> tuple[Array, Found]:
        given.append(len(images))
        return images.mean((1, 2, 3))[:, None], {}

    count, kind = (1, "flax") if framework == "one" else (9, framework)
    model = Model(CONFIG, PREPROCESS, LABELS, kind, "x", "labels", call)
    images = [Opened(str(i), picture(i), PREPROCESS(picture(i))) for i in range(count)]
    found = list(run(model, batches(images, 4, lambda bad: pytest.fail(bad.path))))
    assert given == lengths
    assert [image for batch in found for image in batch.images] == images
    outputs = np.concatenate([batch.output[:, 0] for batch in found])
    assert np.array_equal(outputs, [image.input.mean() for image in images])


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


def test_principal_filters_are_those_of_the_kernels_covariance():
    """A kernel that is one pattern at several strengths has that pattern as its first component."""
    pattern = np.zeros((3, 4, 4))
    pattern[:, 1] = 1
    kernel = np.arange(8)[:, None, None, None] * pattern
    first = principal_filters(kernel, 1)[0]
    assert first.shape == (4, 4, 3)
    assert (first[1] == 1).all()
    assert first[[0, 2, 3]].max() < EXACT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--checkpoint gone photo.jpg", "photo.jpg: no such file or folder"),
        ("--checkpoint gone .", "no image is in this folder"),
        ("--checkpoint gone", "no image is named"),
        ("--checkpoint gone --anatomy a.png --features f.npz", "--features needs images"),
        ("--checkpoint gone x --top 0", "--top must be at least 1, got 0"),
        ("--checkpoint gone x --attention no/such/heat.png", "there is no folder"),
        ("--checkpoint gone x --features .", ". can't be written: it is a folder"),
        ("--checkpoint gone x --nearest . --csv", "--csv has no columns for --nearest and --knn: ask for --json"),
        ("--checkpoint gone x --nearest-png near.png", "--nearest-png needs --nearest FOLDER"),
    ],
)
def test_mistakes_are_one_message(tmp_path: Path, monkeypatch, capsys, arguments: str, message: str):
    monkeypatch.chdir(tmp_path)
    code, out, err = said(capsys, *arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith("vit-predict: error: ")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_checkpoint_that_is_none_and_a_layer_that_is_none_are_said(folder: Path, capsys):
    image = folder / "photos" / "a.jpg"
    code, _, err = said(capsys, image, "--checkpoint", folder / "gone")
    assert code == 2
    assert "gone: no such file or directory" in err
    layer = ["--features", folder / "f.npz", "--layer", 2]
    code, _, err = said(capsys, image, "--checkpoint", folder / "checkpoint", *layer)
    assert code == 2
    assert "--layer must be from 0 to 1" in err


def test_help_waits_for_nothing_heavy_and_one_framework_is_loaded_alone(folder: Path):
    code = "import sys; from vit_tools.predict.command import main\n"
    code += "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
    code += "print(sorted({'jax', 'torch', 'matplotlib', 'numpy'} & set(sys.modules)), file=sys.stderr)"

    def loaded(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
        )
        return done.stderr.splitlines()[-1]

    assert loaded("--help") == "[]"
    image = [folder / "photos" / "a.jpg", "--checkpoint", folder / "checkpoint", "--framework"]
    assert loaded(*image, "torch") == "['numpy', 'torch']"
    assert loaded(*image, "flax") == "['jax', 'numpy']"
