"""vit-train evaluate: any layout, any dataset, torch's own count; what can't be judged is one clear message."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vit_torch
from parity_tests.compare import apart, gap
from parity_tests.datasets import jpegs, write_tfds
from parity_tests.tolerances import EXACT, FLOAT32
from train.__main__ import main
from train.input.sources.digits import digits
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess

SMALL = ViTConfig(image_size=8, patch_size=2, dim=16, depth=1, num_heads=2, mlp_dim=24, num_classes=10)
OWN = Preprocess(resize=(9, 9), crop=(8, 8), mean=(0.4, 0.3, 0.2), std=(0.3, 0.4, 0.5))  # not a run's on digits
DIGITS = tuple("0123456789")

Fails = Callable[..., str]


def make_model(**changes: object) -> vit_torch.ViT:
    return vit_torch.ViT(SMALL.replace(**changes), generator=torch.Generator().manual_seed(0)).double()


def save(model: vit_torch.ViT, path: Path, layout: str = "native", labels: tuple[str, ...] = DIGITS) -> Path:
    with torch.no_grad():
        for p in model.parameters():
            p += 0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()), dtype=p.dtype)
    model.save_pretrained(path, layout=layout, preprocess=OWN, labels=labels if model.config.num_classes else None)
    return path


def torchs_count(path: Path) -> dict[str, object]:
    """One image after the other, as torch would see it."""
    model, split = vit_torch.ViT.from_pretrained(path), digits("test")
    assert model.preprocess is not None
    images = np.stack([model.preprocess(Image.fromarray(image[:, :, 0])) for image in split.images])
    with torch.no_grad():
        logits = model(torch.tensor(images).permute(0, 3, 1, 2).double())
    labels = torch.tensor(split.labels).long()
    right = logits.argmax(-1) == labels
    return {
        "count": 360,
        "correct": int(right.sum()),
        "top5": (logits.topk(5).indices == labels[:, None]).any(-1).double().mean().item(),
        "loss": torch.nn.functional.cross_entropy(logits, labels).item(),
        "classes": [
            {"name": str(k), "correct": int(right[labels == k].sum()), "count": int((labels == k).sum())}
            for k in range(10)
        ],
    }


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """Arguments -> what the command prints, and what it notes."""

    def call(*arguments: object) -> tuple[str, str]:
        main(["evaluate", *map(str, arguments)])
        printed = capsys.readouterr()
        return printed.out, printed.err

    return call


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    def call(*arguments: object) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["evaluate", *map(str, arguments)])
        assert stop.value.code == 2
        return capsys.readouterr().err

    return call


@pytest.mark.parametrize("layout", ["native", "timm", "transformers"])
def test_a_checkpoint_of_any_layout_is_judged_as_torch_judges_it(tmp_path: Path, evaluate: Callable, layout: str):
    path = save(make_model(), tmp_path / layout, layout)
    printed, noted = evaluate(path, "--data", "digits", "--json", "--batch-size", 100)
    assert not noted
    found: dict[str, float] = json.loads(printed)
    expected: Any = torchs_count(path)
    assert gap(found["loss"], expected["loss"]) < FLOAT32  # images are normalised in float32 by torch
    assert found["top1"] == found["correct"] / 360
    assert {**expected, **{name: found[name] for name in expected if name != "loss"}} == expected
    assert 0 < found["correct"] < 180  # neither all nor nothing is right


@pytest.mark.slow
def test_on_several_devices_the_same_is_counted(tmp_path: Path, evaluate: Callable):
    """360 images in batches of 100 on 4 devices, the last batch of 60."""
    path = save(make_model(), tmp_path / "model")
    given = (str(path), "--data", "digits", "--json", "--batch-size", "100")
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [sys.executable, "-m", "train", "evaluate", *given]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours, one = json.loads(done.stdout), json.loads(evaluate(*given)[0])
    assert apart(ours.pop("loss"), one.pop("loss")) < EXACT
    assert ours | {"seconds": 0} == one | {"seconds": 0}


def test_people_read_the_same_numbers_and_get_a_picture(tmp_path: Path, evaluate: Callable):
    path = save(make_model(), tmp_path / "model")
    expected = torchs_count(path)
    printed, _ = evaluate(path, "--data", "digits", "--confusion", tmp_path / "confusion.png")
    assert f"{expected['correct']} of 360\n" in printed
    assert f"loss   {expected['loss']:7.4f}\n" in printed
    assert "taken for another the most" in printed
    with Image.open(tmp_path / "confusion.png") as picture:
        assert picture.format == "PNG"


def test_a_class_is_one_line_whatever_its_name_holds(tmp_path: Path, evaluate: Callable):
    """People read it escaped, with the letters of every language as they are; JSON has it as it is."""
    labels = (
        "two\nlines",
        "\x1b[31mred",
        "\u202eback",
        "\x85",
        "\ttab",
        "\u2028",
        "caf\u00e9",
        "\u732b",
        "a b",
        "\u2602",
    )
    path = save(make_model(), tmp_path / "model", labels=labels)
    printed, noted = evaluate(path, "--data", "digits")
    assert "class 0 is '0' there and 'two\\nlines' here" in noted
    head, *rest = printed.splitlines()
    assert head.startswith(f"{path} (native) on digits, split test: 360 images in ")
    at = rest.index("taken for another the most:")
    escaped = {"two\\nlines", "\\x1b[31mred", "\\u202eback", "\\x85", "\\ttab", "\\u2028"}
    worst = [line.rsplit("  ", 1)[1] for line in rest[rest.index("the classes that are right the least:") + 1 : at]]
    pairs = [line.rsplit("  ", 1)[1].split(" as ") for line in rest[at + 1 :]]
    assert (len(worst), len(pairs)) == (5, 5)
    assert {*worst, *(name for pair in pairs for name in pair)} <= {*escaped, *labels[6:]}
    assert escaped & {*worst}
    found = json.loads(evaluate(path, "--data", "digits", "--json")[0])
    assert tuple(entry["name"] for entry in found["classes"]) == labels


def test_classes_in_another_order_are_matched_by_name(tmp_path: Path, evaluate: Callable):
    """The same function, its classes counted from 9 down."""
    straight = save(make_model(), tmp_path / "straight")
    model = vit_torch.ViT.from_pretrained(straight)
    assert model.head is not None
    with torch.no_grad():
        model.head.weight[:], model.head.bias[:] = model.head.weight.flip(0).clone(), model.head.bias.flip(0).clone()
    model.save_pretrained(tmp_path / "turned", labels=DIGITS[::-1])
    (one, _), (other, noted) = (evaluate(tmp_path / n, "--data", "digits", "--json") for n in ("straight", "turned"))
    assert "matched by name" in noted
    one, other = json.loads(one), json.loads(other)
    assert one["correct"] == other["correct"]
    assert one["classes"] == other["classes"][::-1]


def test_another_split_and_a_folder_of_images_are_judged_too(
    tmp_path: Path, evaluate: Callable, monkeypatch: pytest.MonkeyPatch
):
    path = save(make_model(), tmp_path / "model")
    assert json.loads(evaluate(path, "--data", "digits", "--split", "train", "--json")[0])["count"] == 1437
    split = digits("test")
    for i in range(30):
        folder = tmp_path / "images" / "val" / str(split.labels[i])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(split.images[i, :, :, 0]).save(folder / f"{i}.png")
    assert len(list((tmp_path / "images" / "val").iterdir())) == 10
    monkeypatch.setenv("HOME", str(tmp_path))
    given = ("--data", "folder:~/images", "--split", "val", "--json", "--batch-size", 8)
    found = json.loads(evaluate(path, *given)[0])
    model = vit_torch.ViT.from_pretrained(path)
    assert model.preprocess is not None
    images = np.stack([model.preprocess(Image.fromarray(x[:, :, 0])) for x in split.images[:30]])
    with torch.no_grad():
        predicted = model(torch.tensor(images).permute(0, 3, 1, 2).double()).argmax(-1).numpy()
    assert found["count"] == 30  # 8, 8, 8 and 6
    assert found["correct"] == (predicted == split.labels[:30]).sum()


def test_what_cannot_be_judged_is_one_message(tmp_path: Path, fails: Fails):
    headless, nine = save(make_model(num_classes=0), tmp_path / "headless"), tmp_path / "nine"
    save(make_model(num_classes=9), nine, labels=DIGITS[:9])
    assert "has no head (num_classes 0)" in fails(headless, "--data", "digits")
    assert "has a head for 9 classes, but digits has 10 (0, 1, 2, ...)" in fails(nine, "--data", "digits")
    assert "none that is called 'val'" in fails(nine, "--data", "digits", "--split", "val")
    assert "no such file" in fails(tmp_path / "nothing", "--data", "digits").lower()
    assert "--batch-size must be at least 1, got 0" in fails(nine, "--data", "digits", "--batch-size", 0)
    assert "there is no folder" in fails(nine, "--data", "digits", "--confusion", tmp_path / "a" / "b.png")
    for name in (".", "picture.jpg"):
        assert "expected the name of a PNG file" in fails(nine, "--data", "digits", "--confusion", tmp_path / name)
    assert "--max-corrupt must be in [0, 1], got -1" in fails(nine, "--data", "digits", "--max-corrupt", -1)
    grey = save(make_model(in_channels=1), tmp_path / "grey")
    said = fails(grey, "--data", "digits")
    assert f"the preprocessing of {grey} makes images of 3 channels (as many as its mean has), and the model" in said
    write_tfds(tmp_path / "tfds", {"test": jpegs(3)})
    two = save(make_model(num_classes=2, in_channels=3), tmp_path / "two", labels=("cat", "dog"))
    given = ("--data", "written", "--data-dir", tmp_path / "tfds", "--split", "test[:0]")
    assert "the split test[:0] of written is empty: there is nothing to judge" in fails(two, *given)
    assert "--data" in fails(nine)
    model = make_model()
    model.save_pretrained(tmp_path / "bare")
    assert "nothing tells how images become the input" in fails(tmp_path / "bare", "--data", "digits")
    run = tmp_path / "run"
    (run / "best").mkdir(parents=True)
    (run / "config.json").write_text('{"format": "vit-parity-run"}')
    assert f"has not come to its end: it left {run / 'best'}" in fails(run, "--data", "digits")
