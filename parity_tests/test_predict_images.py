"""vit-predict takes every image that people have, the right way up, and says which it can't read."""

import csv
import dataclasses
import errno
import io
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from parity_tests.datasets import encoded, picture
from parity_tests.predicting import PREPROCESS, make, make_folder, said
from train.input.sources.folder import Folder as TrainedFolder
from vit_convert.preprocess import Preprocess
from vit_tools.images import NoImages, as_seen, find_images, upright
from vit_tools.labelled import Folder, labelled
from vit_tools.model import Array, Found, Model
from vit_tools.predict.command import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("predict"))


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


def test_a_name_or_label_is_one_line_whatever_it_holds(tmp_path: Path, capsys):
    """People read it escaped, with the letters of every language as they are; JSON and CSV have it as it is."""
    labels = (
        "two\nlines",
        "\x1b[31mred",
        "\u202eback",
        "\u2028",
        "caf\u00e9",
        "\u732b\u3000a b",
        "\u0645\u06cc\u200c\u062e",
    )
    make(tmp_path / "model", labels=labels)
    image, broken = tmp_path / "a\nb.jpg", tmp_path / "c\x1b[2J.jpg"
    image.write_bytes(encoded(picture(0)))
    broken.write_bytes(b"<html>")
    asked = [image, broken, "--checkpoint", tmp_path / "model", "--top", 7]
    code, out, err = said(capsys, *asked)
    head, *rows = out.splitlines()
    assert (code, head) == (1, f"{tmp_path}/a\\nb.jpg")
    escaped = {"two\\nlines", "\\x1b[31mred", "\\u202eback", "\\u2028", *labels[4:]}
    assert {row.split("%  ")[1] for row in rows} == escaped
    assert err == f"vit-predict: {tmp_path}/c\\x1b[2J.jpg: can't be read: no image that Pillow reads\n"
    broken.unlink()
    nearest = said(capsys, image, "--checkpoint", tmp_path / "model", "--nearest", tmp_path)[1].splitlines()
    assert nearest[-2:] == [head, f"  1.0000  {head}"]
    found = json.loads(said(capsys, *asked[:1], *asked[2:], "--json")[1])
    assert (found["image"], {entry["label"] for entry in found["classes"]}) == (str(image), {*labels})
    table = csv.reader(io.StringIO(said(capsys, *asked[:1], *asked[2:], "--csv")[1], newline=""))
    assert {(row[0], row[2]) for row in list(table)[1:]} == {(str(image), label) for label in labels}


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(orientation: int):
    sideways = picture(3, (40, 60))
    sideways.getexif()[0x0112] = orientation
    assert np.array_equal(np.asarray(upright(sideways)), np.asarray(ImageOps.exif_transpose(sideways)))


def test_a_photo_whose_other_exif_is_wrong_is_turned_and_answered(folder: Path, tmp_path: Path, capsys):
    """EXIF that can be read, and not written anew: its camera's maker is a number."""
    orientation = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    maker = struct.pack("<HHIf", 0x010F, 11, 1, 0.5)
    for name, entries in (("right", [orientation]), ("wrong", [maker, orientation])):
        exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
        picture(3, (40, 60)).save(tmp_path / f"{name}.jpg", exif=exif)
    code, out, err = said(capsys, tmp_path, "--checkpoint", folder / "checkpoint", "--json")
    assert (code, err) == (0, "")
    right, wrong = (json.loads(line)["classes"] for line in out.splitlines())
    assert right == wrong


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


def test_a_picture_that_is_too_long_and_thin_is_said_and_the_others_are_answered(
    folder: Path, tmp_path: Path, monkeypatch, capsys
):
    """It would be resized whole, to gigabytes, before it is cropped. A pixel shorter it is a picture as any other."""
    monkeypatch.setattr("vit_convert.preprocess.MOST_PIXELS", 18 * 18 * 100)
    for name, size in (("a", (60, 40)), ("long", (101, 1)), ("shorter", (100, 1))):
        picture(0).resize(size).save(tmp_path / f"{name}.png")
    code, out, err = said(capsys, tmp_path, "--checkpoint", folder / "checkpoint", "--json")
    assert code == 1
    assert [Path(json.loads(line)["image"]).name for line in out.splitlines()] == ["a.png", "shorter.png"]
    why = "101x1 pixels are too long and thin: resized to 1,818x18 they would be more than 32,400"
    assert err == f"vit-predict: {tmp_path}/long.png: can't be read: {why}\n"


@pytest.mark.parametrize("size", [(30000, 1), (1, 30000)])
def test_a_long_thin_png_is_refused_before_it_is_resized(size: tuple[int, int], monkeypatch):
    monkeypatch.setattr("vit_convert.preprocess.resample", lambda *_: pytest.fail("it was resized"))
    with pytest.raises(ValueError, match=r"too long and thin: resized to .* more than 268,435,456"):
        Preprocess(resize=(224, 224), crop=(224, 224))(Image.new("RGB", size))


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
    scandir = os.scandir

    def forbidden(path: Any) -> Any:
        if Path(path).name == "deep":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
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


@pytest.mark.parametrize("form", [[], ["--csv"], ["--json"]])
def test_a_label_that_the_output_has_no_letters_for_is_escaped(
    folder: Path, tmp_path: Path, monkeypatch, form: list[str]
):
    """JSON says the same text; a table and CSV the letter's number, and a file name's own bytes still."""
    photos = [os.fsdecode(os.fsencode(tmp_path) + name) for name in (b"/a.jpg", b"/caf\xe9.jpg")]
    for photo in photos:
        Path(photo).write_bytes(encoded(picture(0)))
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, "ascii", write_through=True))
    assert main([*photos, "--checkpoint", str(folder / "checkpoint"), "--top", "7", *form]) == 0
    if form == ["--json"]:
        rows = [json.loads(line) for line in printed.getvalue().splitlines()]
        assert [row["image"] for row in rows] == photos
        assert all("été" in [found["label"] for found in row["classes"]] for row in rows)
    else:
        assert printed.getvalue().count(rb"\xe9t\xe9") == len(photos)
        assert all(os.fsencode(photo) in printed.getvalue() for photo in photos)
