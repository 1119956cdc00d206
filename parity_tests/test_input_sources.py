"""Sources: a TFDS dataset without TensorFlow, an image folder, the digits; and one message for what is wrong."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

import vit_torch
from parity_tests.datasets import jpegs, picture, pngs, tiny_config, write_folder, write_tfds
from train.config import ConfigError, DataConfig, TrainConfig
from train.errors import DataError
from train.input.data import mean_and_std, open_data
from train.input.sources import Source, open_source
from train.run import run
from vit_torch.training.loop.data import open_sources
from vit_torch.training.loop.errors import Refused
from vit_torch.training.loop.settings import checked, flat

ROOT = Path(__file__).parent.parent

READ = """
import sys
from pathlib import Path
from train.config import DataConfig
from train.input.sources import open_source
source = open_source(DataConfig(name="written", dir=Path(sys.argv[1])), "train")
assert len(source.examples(range(len(source)))) == 9
assert not [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "jax", "torch")]
"""


class Opened(Exception):
    """The data of a run are open."""


def opened(name: str, split: str, data_dir: Path | None = None) -> Source:
    return open_source(DataConfig(name=name, dir=data_dir), split)


def test_a_tfds_dataset_gives_the_files_and_labels_that_were_written(tmp_path: Path):
    train, test = jpegs(9), jpegs(5)[1:]
    write_tfds(tmp_path, {"train": train, "test": test})
    for split, written in {"train": train, "test": test, "train[:5]": train[:5], "train[50%:]": train[4:]}.items():
        source = opened("written", split, tmp_path)
        assert len(source) == len(written)
        assert [(e.image, e.label) for e in source.examples(range(len(source)))] == written
    source = opened("written", "train[50%:]", tmp_path)
    assert [e.label for e in source.examples([3, 0])] == [train[7][1], train[4][1]]
    assert source.examples([]) == []
    assert source.class_names == ("cat", "dog")
    assert source.shape == (None, None, 3)


def test_a_tfds_dataset_is_read_without_tensorflow(tmp_path: Path):
    """Nor are JAX and torch loaded to read it."""
    write_tfds(tmp_path, {"train": jpegs(9), "test": jpegs(3)})
    subprocess.run([sys.executable, "-c", READ, str(tmp_path)], cwd=ROOT, check=True)


def test_a_fingerprint_tells_data_apart(tmp_path: Path):
    write_tfds(tmp_path / "tfds", {"train": jpegs(9), "test": jpegs(9)})
    write_folder(tmp_path / "a" / "train", jpegs(9))
    write_folder(tmp_path / "b" / "train", jpegs(8))
    write_folder(tmp_path / "c" / "train", jpegs(9), suffix="jpeg")
    found = [opened("written", split, tmp_path / "tfds").fingerprint for split in ("train", "test", "train[:5]")]
    found += [opened(f"folder:{tmp_path / name}", "train").fingerprint for name in "abc"]
    found += [opened("digits", split).fingerprint for split in ("train", "test")]
    assert found[0] == "written/1.0.0 train 9"
    assert len(set(found)) == len(found)
    (tmp_path / "a").rename(tmp_path / "moved")
    assert opened(f"folder:{tmp_path / 'moved'}", "train").fingerprint == found[3]


def test_a_folder_has_its_classes_and_images_by_name(tmp_path: Path):
    split = tmp_path / "train"
    hidden = ("ant/.hidden.jpg", "ant/.thumbnails/x.jpg", ".cache/c.jpg")
    for name in ("zebra/b.JPG", "zebra/a.jpeg", "ant/deep/x.png", "ant/notes.txt", *hidden):
        (split / name).parent.mkdir(parents=True, exist_ok=True)
        (split / name).write_bytes(name.encode())
    source = opened(f"folder:{tmp_path}", "train")
    assert source.class_names == ("ant", "zebra")
    examples = source.examples(range(len(source)))
    names = ["ant/deep/x.png", "zebra/a.jpeg", "zebra/b.JPG"]
    assert [e.image for e in examples] == [name.encode() for name in names]
    assert [e.name for e in examples] == [str(split / name) for name in names]
    assert [e.label for e in examples] == [0, 1, 1]


def test_a_name_that_is_no_utf_8_is_a_name(tmp_path: Path):
    """Of an old archive, say: Linux takes any bytes."""
    write_folder(tmp_path / "train", jpegs(2, classes=1))
    folder = os.fsencode(tmp_path / "train" / "class0")
    try:
        os.rename(folder + b"/0000.jpg", folder + b"/caf\xe9.jpg")
    except OSError:
        pytest.skip("this file system takes none")
    source = opened(f"folder:{tmp_path}", "train")
    assert len(source) == 2
    assert source.examples([1])[0].name.endswith("caf\udce9.jpg")


@pytest.mark.parametrize("name", ["train", "train/zebra", "train/ant/deep"])
def test_a_folder_that_cant_be_listed_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its images would be left out without a word. Injected: who runs this may be root, whom nothing is forbidden."""
    for image in ("zebra/a.jpg", "ant/deep/x.png", "ant/y.png"):
        (tmp_path / "train" / image).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / image).touch()
    forbidden = str(tmp_path / name)

    def guard(real: Callable[..., Any]) -> Callable[..., Any]:
        def listing(path: Any = ".") -> Any:
            if str(path) == forbidden:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), forbidden)
            return real(path)

        return listing

    for function in ("scandir", "listdir"):
        monkeypatch.setattr(os, function, guard(getattr(os, function)))
    with pytest.raises(ConfigError) as error:
        opened(f"folder:{tmp_path}", "train")
    assert f"{tmp_path / name} can't be listed (Permission denied)" in str(error.value)


def test_links_are_followed_and_those_that_lead_back_give_no_image_twice(tmp_path: Path):
    split, far = tmp_path / "train", tmp_path / "far"
    for image in (split / "ant/a.jpg", split / "ant/deep/b.jpg", far / "c.jpg"):
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
    for link, to in ((split / "ant/deep/up", split / "ant"), (split / "ant/away", far), (far / "back", split / "ant")):
        link.symlink_to(to)
    names = [e.name for e in opened(f"folder:{tmp_path}", "train").examples(range(3))]
    assert names == [str(split / "ant" / name) for name in ("a.jpg", "away/c.jpg", "deep/b.jpg")]
    assert len(opened(f"folder:{tmp_path}", "train")) == 3


def test_digits_are_scikit_learns():
    train, test = opened("digits", "train"), opened("digits", "test")
    assert (len(train), len(test), train.shape) == (1437, 360, (8, 8, 1))
    assert train.class_names == tuple("0123456789")
    counts = [sum(e.label == k for e in train.examples(range(1437))) for k in range(10)]
    assert min(counts) >= 139
    assert max(counts) <= 146


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("nonsense", {}, "nonsense: TFDS says: Dataset nonsense not found"),
        ("fashion_mnist", {}, "make it with `vit-train prepare fashion_mnist --data-dir {tmp}/tfds`"),
        ("written", {"test_split": "val"}, "written, split 'val': Unknown split 'val'. Should be one of"),
        ("written", {"classes": 3}, "num_classes is 3, but the labels of written go from 0 to 1: use --model.num-c"),
        ("written", {"channels": 1}, "model.in_channels is 1, but the images of written have 3"),
        ("written", {"channels": 2}, "images are grey (1), RGB (3) or RGBA (4)"),
        ("written", {"batch_size": 10}, "batch_size 10 is more than the 9 training images"),
        ("written", {"resident": True, "crop": "simple"}, "data.resident needs data.crop none, got simple"),
        ("written", {"batch_size": 10, "classes": 3}, "use --model.num-classes 2; batch_size 10 is more than"),
        ("records", {}, "is not in ArrayRecord, the format that can be read at random without TensorFlow"),
        ("folder:{tmp}/none", {}, "there is no {tmp}/none/train: {tmp}/none is no folder with folders in it"),
        ("folder:{tmp}/folder", {"test_split": "test"}, "{tmp}/folder has train, val; name splits with --data.train"),
        ("folder:{tmp}/folder", {"test_split": "val"}, "differ between its splits: 'class2' only in the held-out"),
        ("folder:{tmp}/flat", {}, "{tmp}/flat/train has no folders: expected one for each class"),
        ("folder:{tmp}/gap", {}, "folder:{tmp}/gap: no image is in {tmp}/gap/train/b, {tmp}/gap/train/d: remove each"),
        ("folder:{tmp}/empty", {}, "no image (.bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff, .webp) is in"),
    ],
)
def test_data_that_do_not_fit_are_one_message_before_an_image_is_read(
    name: str, options: dict, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_tfds(tmp_path / "tfds", {"train": jpegs(9), "test": jpegs(3)})
    write_tfds(tmp_path / "records", {"train": jpegs(9), "test": jpegs(3)}, file_format="tfrecord")
    write_folder(tmp_path / "folder" / "train", jpegs(9))
    write_folder(tmp_path / "folder" / "val", jpegs(9, classes=3))
    (tmp_path / "flat" / "train").mkdir(parents=True)
    (tmp_path / "flat" / "train" / "x.jpg").touch()
    (tmp_path / "empty" / "train" / "cat").mkdir(parents=True)
    make_gap(tmp_path / "gap")
    monkeypatch.setattr("train.input.reader.Reader.__init__", lambda *_: pytest.fail("an image is read"))
    data_dir = tmp_path / ("records" if name == "records" else "tfds")
    name = name.replace("{tmp}", str(tmp_path)).replace("records", "written")
    with pytest.raises(ConfigError) as error:
        open_data(tiny_config(name, dir=data_dir, **options))
    assert expected.replace("{tmp}", str(tmp_path)) in str(error.value)


def make_gap(root: Path) -> None:
    """Classes a, b, c and d, of which b and d have no image to train on, and a none that is held out."""
    for name in "abcd":
        for split in ("train", "test"):
            (root / split / name).mkdir(parents=True)
            if (split, name) not in {("train", "b"), ("train", "d"), ("test", "a")}:
                picture(0).save(root / split / name / "0.png")


def test_a_class_without_an_image_to_train_on_is_named_in_both_trainers_and_may_have_none_held_out(tmp_path: Path):
    make_gap(tmp_path)
    config = tiny_config(f"folder:{tmp_path}", classes=4, batch_size=2)
    settings = checked(flat(config.to_dict()), "these")
    said = f"no image is in {tmp_path}/train/b, {tmp_path}/train/d: remove each such folder, or put its images there"
    with pytest.raises(ConfigError, match=said):
        open_data(config)
    with pytest.raises(Refused, match=said):
        open_sources(settings)
    for name in "bd":
        picture(0).save(tmp_path / "train" / name / "0.png")
    assert open_data(config).class_names == open_sources(settings)[1].class_names == tuple("abcd")


@pytest.mark.parametrize(("split", "label"), [("test", -1), ("train", 2)])
def test_labels_that_are_no_classes_are_found_before_a_run_begins(split: str, label: int, tmp_path: Path):
    """As of TFDS' imagenet2012, whose test split has none: -1. Of a large set some examples are looked at."""
    examples = {"train": jpegs(9), "test": jpegs(400)}
    wrong = len(examples[split]) - 1
    examples[split][wrong] = (examples[split][wrong][0], label)
    write_tfds(tmp_path, examples)
    said = f"written, split '{split}': example {wrong} of {wrong + 1} has the label {label}; expected one of 0 to 1"
    with pytest.raises(ConfigError, match=said):
        open_data(tiny_config("written", dir=tmp_path))


@pytest.mark.parametrize("init", [False, True])
def test_a_run_walks_an_image_folder_once_a_split(init: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A million files on a network disk take minutes."""
    for split in ("train", "test"):
        write_folder(tmp_path / "data" / split, jpegs(9))
    config = tiny_config(f"folder:{tmp_path / 'data'}")
    if init:
        vit_torch.ViT(config.model).save_pretrained(tmp_path / "start")
        config = replace(config, init=str(tmp_path / "start"))
    walked, walk = [], os.walk
    monkeypatch.setattr(os, "walk", lambda top, **given: walked.append(Path(top)) or walk(top, **given))

    def enough(config: TrainConfig) -> NoReturn:
        raise Opened

    monkeypatch.setattr("train.run.make_placement", enough)
    with pytest.raises(Opened):
        run(config, tmp_path / "run", recipe="tiny")
    folders = [
        path.relative_to(tmp_path / "data").as_posix() for path in walked if path.is_relative_to(tmp_path / "data")
    ]
    assert folders == ["train/class0", "train/class1", "test/class0", "test/class1"]


def test_grey_images_fit_a_model_of_colours(tmp_path: Path):
    write_tfds(tmp_path, {"train": pngs(9), "test": pngs(3)}, shape=(16, 16, 1))
    split = open_data(tiny_config("written", dir=tmp_path, batch_size=4)).whole_train
    assert split.images.shape == (9, 16, 16, 3)
    assert (split.images[..., :1] == split.images).all()


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as Python lets them."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-7)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("restless")
def test_threads_that_read_at_once_get_each_record_as_it_was_written(tmp_path: Path):
    """A reader is moved to a record and then read: no other thread may come in between."""
    written = [(bytes([number]) * (1 + 997 * number), number % 2) for number in range(40)]
    write_tfds(tmp_path, {"train": written})
    source = opened("written", "train", tmp_path)
    orders = [np.random.default_rng(seed).permutation(40).tolist() * 5 for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(source.examples, orders))
    for order, examples in zip(orders, found, strict=True):
        assert [(e.image, e.label) for e in examples] == [written[i] for i in order]


def test_a_record_that_is_not_there_is_an_error(tmp_path: Path):
    write_tfds(tmp_path, {"train": jpegs(4)})
    source = opened("written", "train[1:3]", tmp_path)
    for index in (-1, 2):
        with pytest.raises(IndexError, match=f"record {index} of 2"):
            source.examples([index])


def test_mean_and_std_are_the_pixels():
    pixels = np.random.default_rng(0).integers(0, 200, (7, 5, 4, 3)).astype(np.uint8)
    mean, std = mean_and_std(pixels)
    assert mean == tuple(np.round(pixels.mean((0, 1, 2)) / 255, 4))
    assert std == tuple(np.round(pixels.std((0, 1, 2)) / 255, 4))


def test_a_channel_that_is_constant_is_one_message_before_anything_is_written(tmp_path: Path):
    """Opaque alpha, of which the standard deviation is 0. Where mean and std are given the run goes on."""
    for split in ("train", "test"):
        write_folder(tmp_path / split, pngs(9), suffix="png")
    config = tiny_config(f"folder:{tmp_path}", channels=4, resident=True)
    with pytest.raises(ConfigError) as error:
        run(config, tmp_path / "run", recipe="tiny")
    said = "channel 3 (255) of the training images is constant: give data.mean and data.std"
    assert str(error.value) == said
    assert not (tmp_path / "run").exists()
    given = replace(config, data=replace(config.data, mean=(0.5,) * 4, std=(0.2,) * 4))
    assert open_data(given).preprocess.std == (0.2,) * 4


def test_a_file_of_a_dataset_that_is_gone_or_cut_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Gone, or cut in what is looked at: before anything begins. Cut elsewhere, or later: when it is read."""
    write_tfds(tmp_path, {"train": jpegs(8), "test": jpegs(4)})
    first, second = sorted((tmp_path / "written" / "1.0.0").glob("written-train*"))
    config = tiny_config("written", classes=2, batch_size=4, dir=tmp_path)
    whole = second.read_bytes()
    second.write_bytes(whole[: len(whole) // 2])
    with monkeypatch.context() as patch:
        patch.setattr("train.input.data.check_labels", lambda source, name: None)
        data = open_data(config)
    with pytest.raises(DataError, match=f"{second.name}: record . can't be read"):
        _ = data.whole_train
    with pytest.raises(ConfigError, match=f"{second.name}: record . can't be read"):
        open_data(config)
    first.unlink()
    with pytest.raises(ConfigError, match=rf"split 'train': files are missing: .*{first.name}"):
        open_data(config)


def test_why_a_file_cant_be_read_is_said(tmp_path: Path):
    write_folder(tmp_path / "train", jpegs(20, classes=1))
    write_folder(tmp_path / "test", jpegs(2, classes=1))
    gone = tmp_path / "train" / "class0" / "0003.jpg"
    gone.unlink()
    gone.symlink_to(tmp_path / "nowhere")
    data = open_data(tiny_config(f"folder:{tmp_path}", classes=1, batch_size=4, max_corrupt=0.5))
    _ = data.whole_train
    (said,) = data.unsaid()
    assert said.endswith(f"{gone} (No such file or directory): no image that Pillow reads")
