"""`same_answers` says yes only where every prediction is the same and the logits differ by rounding alone."""

import numpy as np
import pytest

import vit_flax.mlp
from parity_tests import same_answers
from parity_tests.same_answers import Answers, report
from parity_tests.tolerances import EXACT, FLOAT32
from train.input.data import open_data
from train.recipes import RECIPES
from vit_convert.config import ViTConfig

DIGITS = ViTConfig(image_size=8, patch_size=2, in_channels=1, dim=16, depth=2, num_heads=2, mlp_dim=32, num_classes=10)


@pytest.fixture
def run(tmp_path):
    """An untrained run."""
    import torch

    import vit_torch

    model = vit_torch.ViT(DIGITS, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path / "checkpoint", preprocess=open_data(RECIPES["digits"]()).preprocess)
    return tmp_path


def test_the_whole_test_set_is_compared_and_the_maps_are_drawn(run, capsys):
    assert same_answers.same_answers(run) == 0
    printed = capsys.readouterr().out
    assert "predictions that are the same: 360 of 360" in printed
    assert "largest difference from float64: PyTorch" in printed
    assert (run / "attention.png").stat().st_size > 10_000


def test_another_function_is_noticed_though_the_predictions_are_the_same(run, monkeypatch, capsys):
    monkeypatch.setitem(vit_flax.mlp.ACTIVATIONS, "gelu", vit_flax.mlp.ACTIVATIONS["gelu_tanh"])
    assert same_answers.same_answers(run) == 1
    printed = capsys.readouterr()
    assert "the same: 360 of 360" in printed.out
    assert "disagree" in printed.err


def test_the_report_counts_and_measures():
    exact = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    other = exact + np.array([[0.0, 0.0], [0.0, -3.0], [0.0, 0.5]])
    answers = Answers(exact + 1e-6, other, exact, np.array([0, 1, 1]), np.zeros((3, 1, 1)))
    assert not answers.agree
    assert answers.noise_ratio == pytest.approx(1e6 * (9.25 / 6) ** 0.5, rel=FLOAT32)
    assert answers.different == 1
    assert answers.accuracy == pytest.approx(2 / 3, rel=EXACT)
    assert "predictions that are the same: 2 of 3" in report(answers)
    assert "largest logit difference between the two: 3.0e+00, of logits up to 3.0" in report(answers)


@pytest.mark.parametrize("change", [{"in_channels": 3}, {"image_size": 16}, {"num_classes": 0}])
def test_a_checkpoint_of_another_shape_is_one_message(tmp_path, monkeypatch, capsys, change):
    import vit_torch

    vit_torch.ViT(DIGITS.replace(**change)).save_pretrained(tmp_path / "checkpoint")
    monkeypatch.setattr("sys.argv", ["same_answers", str(tmp_path)])
    with pytest.raises(SystemExit) as exit_:
        same_answers.main()
    assert exit_.value.code == 2
    assert "is no model of the digits: it " in capsys.readouterr().err


@pytest.mark.parametrize("make", [lambda path: None, lambda path: (path / "checkpoint").mkdir()])
def test_a_missing_checkpoint_is_one_message(tmp_path, monkeypatch, capsys, make):
    make(tmp_path)
    monkeypatch.setattr("sys.argv", ["same_answers", str(tmp_path)])
    with pytest.raises(SystemExit) as exit_:
        same_answers.main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("same_answers: error: ")
