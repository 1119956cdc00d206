"""Evaluation: a whole split comes to what torch counts, whatever the number of classes; its pictures show it."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image

from parity_tests.compare import elementwise, gap
from parity_tests.tolerances import EXACT, FLOAT32
from train.config import ConfigError
from train.evaluation.classes import check_head, match_classes
from train.evaluation.confused import Confused, Worst, most_confused, worst_classes
from train.evaluation.counts import CONFUSABLE, count, evaluated, zeros
from train.evaluation.picture import FEW, draw_confusion, in_blocks, shorten
from train.evaluation.split import Evaluate


@pytest.mark.parametrize("num_classes", [3, 12])
def test_counts_are_torchs_count_of_the_examples_that_count(num_classes: int):
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(50, num_classes)), random.integers(num_classes, size=50)
    counts = random.random(50) < 0.7
    found = evaluated(count(jnp.array(logits), jnp.array(labels), jnp.array(counts)))
    x, y = torch.tensor(logits[counts]), torch.tensor(labels[counts])
    predicted, top = x.argmax(-1), x.topk(min(5, num_classes)).indices
    assert found.count == counts.sum() < 50
    assert found.correct == (predicted == y).sum()
    assert found.correct_top5 == (top == y[:, None]).any(-1).sum()
    assert gap(found.loss, torch.nn.functional.cross_entropy(x, y).item()) < EXACT
    theirs = torch.zeros(num_classes, num_classes).long().index_put_((y, predicted), torch.tensor(1), accumulate=True)
    assert found.confusion is not None
    assert found.confusion.tolist() == theirs.tolist()
    expected = [(theirs[k, k] / theirs[k].sum()).item() for k in range(num_classes)]
    assert elementwise(found.class_accuracy, expected) < FLOAT32


def test_thousands_of_classes_have_no_confusion_matrix_and_all_else():
    num_classes = CONFUSABLE + 1
    logits, labels = jnp.eye(2, num_classes), jnp.array([0, 7])
    found = evaluated(count(logits, labels, jnp.array([True, True])))
    assert found.confusion is zeros(num_classes, np.float32).confusion is None
    assert (found.count, found.correct) == (2, 1)
    assert found.class_count.nonzero()[0].tolist() == [0, 7]
    assert found.class_accuracy[[0, 7]].tolist() == [1, 0]
    assert np.isnan(found.class_accuracy[1])


def test_what_is_confused_the_most_comes_first():
    confusion = np.array([[5, 3, 0], [0, 9, 1], [3, 0, 0]])
    assert most_confused(confusion, "abc", 5) == [
        Confused("a", "b", 3, 8),
        Confused("c", "a", 3, 3),
        Confused("b", "c", 1, 10),
    ]
    assert most_confused(confusion, "abc", 1) == [Confused("a", "b", 3, 8)]
    worst = worst_classes(np.array([5, 9, 0, 0]), np.array([8, 10, 3, 0]), "abcd", 2)
    assert worst == [Worst("c", 0, 3), Worst("a", 5, 8)]


def test_no_cell_of_a_large_matrix_vanishes():
    shares = np.zeros((1000, 1000))
    shares[3, 998] = 0.1
    blocks, side = in_blocks(shares, 250)
    assert blocks.shape == (250, 250)
    assert side == 4
    assert blocks[0, 249] == 0.1
    assert blocks.sum() == 0.1
    assert in_blocks(shares[:7, :7], 3)[0].shape == (3, 3)


class Device:
    """Computes nothing until it is waited for, and then what it was given first; knows how much lies there."""

    def __init__(self) -> None:
        self.given, self.done, self.most = 0, 0, 0

    def add(self, totals: Any, params: Any, batch: Any) -> "Total":
        self.given += 1
        self.most = max(self.most, self.given - self.done)
        return Total(self, self.given)


class Total:
    def __init__(self, device: Device, number: int):
        self.device, self.number = device, number

    def block_until_ready(self) -> "Total":
        self.device.done = max(self.device.done, self.number)
        return self


def test_an_evaluation_gives_the_devices_one_batch_ahead_and_no_more(monkeypatch: pytest.MonkeyPatch):
    """Where reading is faster than computing, a whole split would lie in their memory."""
    monkeypatch.setattr("train.evaluation.split.evaluated", lambda totals: totals.number)
    device, batches = Device(), iter(range(20))
    evaluate: Any = Evaluate(device.add, lambda: nullcontext(batches), zero=Total(device, 0))  # pyright: ignore[reportArgumentType]
    assert evaluate({}) == 20
    assert device.most == 2


@pytest.mark.parametrize("num_classes", [2, FEW, FEW + 1])
def test_a_confusion_matrix_is_a_picture(tmp_path: Path, num_classes: int):
    confusion = np.eye(num_classes, dtype=int) * 1000
    names = [f"$class {i}, a synonym" for i in range(num_classes)]
    pictures = []
    for extra in (0, 900):
        confusion[0, 1] = extra
        draw_confusion(confusion, names, tmp_path / "confusion.png", "$ of the title")
        with Image.open(tmp_path / "confusion.png") as picture:
            pictures.append(np.asarray(picture.convert("RGB")).astype(int))
            assert min(picture.size) >= 500
    assert [path.name for path in tmp_path.iterdir()] == ["confusion.png"]
    if pictures[0].shape == pictures[1].shape:
        assert np.abs(pictures[0] - pictures[1]).max() > 50  # the cell is seen


def test_names_are_short_and_no_mathematics():
    assert shorten("tench, Tinca tinca") == "tench"
    assert shorten("a" * 40) == "a" * 21 + "…"
    assert shorten("5$") == r"5\$"


def test_classes_are_matched_by_name_where_the_names_are_the_same():
    same = match_classes("run", ("cat", "dog", "emu"), "pets", ("cat", "dog", "emu"))
    assert same.order.tolist() == [0, 1, 2]
    assert not same.said
    other = match_classes("run", ("emu", "cat", "dog"), "pets", ("cat", "dog", "emu"))
    assert other.order.tolist() == [1, 2, 0]
    assert other.names == ("emu", "cat", "dog")
    assert other.said == ("the classes of pets have another order than those of run: they are matched by name",)


def test_classes_of_other_names_are_matched_by_number_and_that_is_said():
    found = match_classes("run", ("tench", "shark"), "imagenet", ("n01440764", "shark"))
    assert found.order.tolist() == [0, 1]
    assert "class 0 is 'n01440764' there and 'tench' here" in found.said[0]
    twice = match_classes("run", ("crane", "crane", "emu"), "birds", ("emu", "crane", "crane"))
    assert twice.order.tolist() == [0, 1, 2]  # which crane is which, no name tells
    assert "matched by number" in twice.said[0]
    assert not match_classes("run", None, "imagenet", ("a", "b")).said


def test_a_head_for_other_classes_is_refused():
    with pytest.raises(ConfigError, match=r"run has a head for 9 classes, but pets has 4 \(a, b, c, ...\)"):
        check_head("run", 9, "pets", "abcd")
    with pytest.raises(ConfigError, match=r"run has no head .*linear_probe --init run --data.name pets"):
        check_head("run", 0, "pets", "abcd")
    check_head("run", 4, "pets", "abcd")
