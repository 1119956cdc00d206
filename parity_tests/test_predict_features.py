"""vit-predict's features are the model's own tokens, of any number of images, and CLIP's embeddings are compared."""

import errno
import io
import json
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
from parity_tests.predicting import CONFIG, LABELS, PREPROCESS, make, make_folder, said
from parity_tests.tolerances import FLOAT32_CHAIN
from vit_tools.images import find_images
from vit_tools.model import Array, Found, Model
from vit_tools.predict.command import make_parser
from vit_tools.predict.tasks import answer_all, asked_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("predict"))


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
