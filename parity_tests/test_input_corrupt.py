"""Images that can't be decoded are named, and replaced by the next that can, up to a share; then it is an error."""

import errno
import io
import os
import struct
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image, WebPImagePlugin

import vit_torch
from parity_tests.datasets import jpegs, picture, tiny_config, write_folder
from train.__main__ import main
from train.errors import DataError
from train.evaluation.checkpoint import Judged
from train.input.data import Data, open_data
from train.input.decode import CorruptImage, as_picture, decode, image_size
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess
from vit_tools.images import Corrupt, open_images
from vit_torch.training.loop.errors import Refused
from vit_torch.training.loop.sources import opened as read_opened

ALL = slice(None)
BROKEN = (2, 3, 9)  # of 10, by their numbers
WRONG = (b"", b"<html>", b"\xff\xd8\xff\xe0 cut short")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """ROOT/train and ROOT/test of one class, three of ten images broken in each: empty, no image, cut short."""
    for split in ("train", "test"):
        write_folder(tmp_path / split, jpegs(10, classes=1))
        for number, wrong in zip(BROKEN, WRONG, strict=True):
            path_of(tmp_path, split, number).write_bytes(wrong)
    return tmp_path


def path_of(root: Path, split: str, number: int) -> Path:
    return root / split / "class0" / f"{number:04}.jpg"


def opened(root: Path, max_corrupt: float = 0.3, **options: Any) -> Data:
    config = tiny_config(f"folder:{root}", classes=1, batch_size=10, max_corrupt=max_corrupt, **options)
    return open_data(config)


def test_an_image_too_long_and_thin_to_be_resized_is_said_and_left_out(root: Path, monkeypatch: pytest.MonkeyPatch):
    """It would take gigabytes: in evaluation, and where DeiT III's crop resizes the whole image."""
    monkeypatch.setattr("vit_convert.preprocess.MOST_PIXELS", 100_000)
    for split in ("train", "test"):
        Image.new("RGB", (5_000, 1)).save(path_of(root, split, 5))
    data = opened(root, max_corrupt=0.4, crop="simple")
    assert data.whole_test.counts.tolist() == [i not in (*BROKEN, 5) for i in range(10)]
    assert any("5,000x1 pixels are too long and thin" in said for said in data.test_reader.unsaid())
    with data.train_batches(0, 1, ALL) as given:
        assert len({image.tobytes() for image in next(given).images}) > 1
    assert any("5,000x1 pixels are too long and thin" in said for said in data.train_reader.unsaid())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_among_the_images_is_no_image_and_nobody_waits_for_it(root: Path, capfd: pytest.CaptureFixture):
    path = path_of(root, "test", 5)
    path.unlink()
    os.mkfifo(path)
    assert not opened(root, max_corrupt=0.4).whole_test.counts[5]
    found = list(open_images([str(path)], Preprocess(resize=(8, 8), crop=(8, 8))))
    assert found == [Corrupt(str(path), "no image that Pillow reads")]
    with pytest.raises(Refused, match="can't be read as an image: no image that Pillow reads"):
        read_opened(path, str(path))


def test_a_broken_image_gives_its_place_to_the_next_that_is_whole(root: Path):
    """2 and 3 to 4, 9 to 0: in every epoch, in the whole split, and whatever the threads."""
    for threads in (1, 4):
        data = opened(root, threads=threads)
        images = data.whole_train.images
        for broken, instead in ((2, 4), (3, 4), (9, 0)):
            assert (images[broken] == images[instead]).all()
        assert len({image.tobytes() for image in images}) == 7
        with data.train_batches(0, 3, ALL) as given:
            for batch in given:
                assert sorted(x.tobytes() for x in batch.images) == sorted(x.tobytes() for x in images)


def test_every_broken_image_is_named_once(root: Path):
    data = opened(root)
    with data.train_batches(0, 4, ALL) as given:
        list(given)
    said = data.unsaid()
    assert len(said) == 3
    for number in BROKEN:
        assert sum(f"{path_of(root, 'train', number)}: " in line for line in said) == 1
    assert data.unsaid() == []


@pytest.mark.parametrize("max_corrupt", [0.4, 0.3])
def test_a_broken_image_is_one_line_whatever_its_name_holds(root: Path, max_corrupt: float):
    """Where it is left out, and where it is one too many."""
    path_of(root, "train", 5).with_name("two\nlines \x1b[2J.jpg").write_bytes(b"")
    data = opened(root, max_corrupt=max_corrupt)
    with (
        pytest.raises(DataError) if max_corrupt == 0.3 else nullcontext() as error,
        data.train_batches(0, 1, ALL) as given,
    ):
        list(given)
    lines = data.unsaid() if error is None else str(error.value).splitlines()
    assert any(f"{root}/train/class0/two\\nlines \\x1b[2J.jpg: " in line for line in lines)


def test_broken_images_are_left_out_of_an_evaluation_and_named(root: Path):
    data = opened(root)
    with data.test_batches(4, ALL) as given:
        counts = np.concatenate([batch.counts for batch in given])
    expected = [number not in BROKEN and number < 10 for number in range(12)]
    assert counts.tolist() == expected
    assert data.whole_test.counts.tolist() == expected[:10]
    assert len(data.unsaid()) == 3


@pytest.mark.parametrize("read", ["train", "test"])
def test_more_broken_images_than_allowed_are_an_error_that_names_them(read: str, root: Path):
    data = opened(root, max_corrupt=0.2)
    with (
        pytest.raises(DataError) as error,
        data.train_batches(0, 3, ALL) if read == "train" else data.test_batches(10, ALL) as given,
    ):
        list(given)
    message = str(error.value)
    assert "3 of 10 images can't be decoded, more than data.max_corrupt 0.2 of them" in message
    assert all(str(path_of(root, read, number)) in message for number in BROKEN)


def test_the_command_says_so_in_one_message(root: Path, capsys: pytest.CaptureFixture[str]):
    arguments = "--model.image-size 16 --model.patch-size 8 --model.dim 16 --model.mlp-dim 16 --model.depth 1"
    arguments += " --model.num-heads 2 --model.num-classes 1 --model.in-channels 3 --batch-size 5"
    arguments += f" --data.mean None --data.std None --data.name folder:{root} --workdir {root / 'run'}"
    with pytest.raises(SystemExit) as stop:
        main(["digits", *arguments.split()])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "images can't be decoded, more than data.max_corrupt 0.01 of them" in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_what_the_last_evaluation_left_out_is_said(root: Path, capsys: pytest.CaptureFixture[str]):
    """Here it is the only one, and what was read ahead for its compiling are not yet all images."""
    arguments = "--model.image-size 16 --model.patch-size 8 --model.dim 16 --model.mlp-dim 16 --model.depth 1"
    arguments += " --model.num-heads 2 --model.num-classes 1 --model.in-channels 3 --batch-size 2 --data.prefetch 1"
    arguments += " --steps 1 --augment.mixup-alpha 0 --augment.cutmix-alpha 0 --data.max-corrupt 0.3 --data.mean None"
    arguments += f" --data.std None --data.name folder:{root} --workdir {root / 'run'}"
    with jax.enable_x64(False):
        main(["digits", *arguments.split()])
    said = capsys.readouterr().out
    assert all(f"left out, for it can't be decoded: {path_of(root, 'test', number)}: " in said for number in BROKEN)


def test_an_evaluation_says_what_was_left_out_whichever_process_met_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    left_out = [f"{path_of(root, 'test', number)}: cut short" for number in BROKEN]
    model, kind = root / "model", dict(image_size=8, patch_size=4, dim=8, depth=1, num_heads=1, mlp_dim=8)
    vit_torch.ViT(ViTConfig(**kind, num_classes=1)).save_pretrained(model, preprocess=opened(root).preprocess)  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr("train.evaluation.checkpoint.judge_checkpoint", lambda *given: Judged(None, 1.0, left_out))  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr("train.devices.hosts.jax.process_index", lambda: 2)
    main(["evaluate", str(model), "--data", f"folder:{root}"])
    said = capsys.readouterr()
    expected = [f"vit-train: process 2: left out, for it can't be decoded: {what}" for what in left_out]
    assert (said.out, said.err.splitlines()) == ("", expected)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def overwritten(image: bytes) -> bytes:
    """Its middle third with other bytes."""
    third = len(image) // 3
    return image[:third] + b"\xff" * third + image[2 * third :]


PHOTO = Image.effect_noise((60, 50), 90).convert("RGB")
PARTLY = {  # and for how many channels
    "WebP, overwritten": (overwritten(encoded(PHOTO, "WEBP")), 3),
    "WebP, lossless, overwritten": (overwritten(encoded(PHOTO, "WEBP", lossless=True)), 3),
    "LAB TIFF": (encoded(Image.new("LAB", (40, 50)), "TIFF"), 1),
}


@pytest.mark.parametrize("kind", PARTLY)
def test_what_pillow_reads_the_header_of_and_no_more_is_a_broken_image(kind: str, root: Path):
    """LAB converts to no grey."""
    image, channels = PARTLY[kind]
    assert image_size(image) == (50, 40 if "LAB" in kind else 60)
    for whole in (decode, as_picture):
        with pytest.raises(CorruptImage, match=r"\w"):
            whole(image, channels)
    for split in ("train", "test"):
        path_of(root, split, 5).write_bytes(image)
    data = opened(root, max_corrupt=0.4, channels=channels)
    assert (data.whole_train.images[5] == data.whole_train.images[6]).all()
    assert not data.whole_test.counts[5]


@pytest.mark.parametrize(
    "error", [EOFError(), struct.error("unpack requires a buffer of 4 bytes"), RuntimeError("Failed to decode frame 0")]
)
def test_an_error_of_pillows_readers_own_is_a_broken_image(error: Exception, monkeypatch: pytest.MonkeyPatch):
    """Of its WebP reader before Pillow 13, of those that unpack numbers, and of its AVIF reader."""

    def failing(self: Any) -> None:
        raise error

    monkeypatch.setattr(WebPImagePlugin.WebPImageFile, "load", failing)
    with pytest.raises(CorruptImage, match=str(error) or "EOFError"):
        decode(encoded(PHOTO, "WEBP"), 3)


def test_an_unreadable_file_is_a_broken_image(root: Path):
    path_of(root, "train", 2).unlink()
    path_of(root, "train", 2).symlink_to(root / "gone")
    data = opened(root)
    assert (data.whole_train.images[2] == data.whole_train.images[4]).all()
    assert any(str(path_of(root, "train", 2)) in line for line in data.unsaid())


def test_a_whole_image_is_not_replaced(root: Path):
    data = opened(root)
    assert decode(path_of(root, "train", 0).read_bytes(), 3).shape == (50, 40, 3)
    assert data.whole_train.images[0].mean() == pytest.approx(np.asarray(picture(0, (40, 50))).mean(), abs=3)


def test_one_broken_image_alone_in_its_batch_is_allowed_like_any_other(tmp_path: Path):
    """The last batch is filled up with the last image: here nothing in it can be decoded."""
    write_folder(tmp_path / "train", jpegs(10, classes=1))
    write_folder(tmp_path / "test", jpegs(9, classes=1))
    path_of(tmp_path, "test", 8).write_bytes(b"")
    with opened(tmp_path, 0.2).test_batches(4, ALL) as given:
        batches = list(given)
    assert [batch.counts.tolist() for batch in batches] == [[True] * 4, [True] * 4, [False] * 4]
    assert batches[2].images.shape == batches[0].images.shape


def test_a_set_without_any_whole_image_is_an_error_however_many_are_allowed(root: Path):
    for number in range(10):
        path_of(root, "train", number).write_bytes(b"")
    with pytest.raises(DataError, match=r"none of 10 images can be decoded, as .*jpg"):
        _ = opened(root, max_corrupt=1).whole_train


def test_a_disk_that_fails_puts_no_other_image_in_the_place(root: Path, monkeypatch: pytest.MonkeyPatch):
    """It may be back the next time, and a run that goes on would see other batches."""

    def failing(path: str, flags: int) -> int:
        if Path(path).name == "0005.jpg":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return os.open(path, flags)

    monkeypatch.setattr("train.input.sources.folder.without_waiting", failing)
    with pytest.raises(DataError, match=r"0005.jpg can't be read: Input/output error"):
        _ = opened(root).whole_train
