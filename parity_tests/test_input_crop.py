"""RandomResizedCrop's boxes are torchvision's on the same draws, and a host's rows get the draws of the whole batch."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from train.input.crop import ASPECT, Box, central_box, crop_draws, random_resized_box

SIZES = [(375, 500), (500, 375), (28, 28), (64, 640), (300, 7), (1, 1), (2, 3)]  # (height, width)


GOLDEN = [0.024755245695788464, 0.16110369015047732, 0.29705876187102076, 0.4814330524943875]


class Number:
    """A torch scalar in float64, as far as get_params uses one."""

    def __init__(self, value: float):
        self.value = value

    def item(self) -> float:
        return self.value


class Drawn:
    """torch's random functions as get_params calls them: area and aspect in turn, then the place of the last try."""

    def __init__(self, draws: np.ndarray):
        self.draws = draws.tolist()
        self.tries = 0
        self.ready: list[float] = []

    def uniform_(self, low: float, high: float) -> Number:
        if len(self.ready) in (0, 2):
            self.ready = self.draws[self.tries]
            self.tries += 1
        drawn, *self.ready = self.ready
        return Number(low + drawn * (high - low))

    def randint(self, low: int, high: int, size: tuple[int, ...]) -> Number:
        drawn, *self.ready = self.ready
        return Number(int(low + drawn * (high - low)))


def theirs(size: tuple[int, int], min_area: float, draws: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Box:
    """torchvision's box."""
    drawn = Drawn(draws)
    with monkeypatch.context() as patched:
        patched.setattr(torch, "empty", lambda _: drawn)
        patched.setattr(torch, "log", lambda ratios: [math.log(ratio) for ratio in ASPECT])
        patched.setattr(torch, "exp", lambda number: Number(math.exp(number.value)))
        patched.setattr(torch, "randint", drawn.randint)
        image = torch.zeros(1, *size)
        return Box(*RandomResizedCrop.get_params(image, [min_area, 1.0], list(ASPECT)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("min_area", [0.08, 0.5, 1.0])
def test_boxes_are_torchvisions_on_the_same_draws(
    size: tuple[int, int], min_area: float, monkeypatch: pytest.MonkeyPatch
):
    for draws in crop_draws(1, 2, 50):
        box = random_resized_box(*size, min_area, draws)
        assert box == theirs(size, min_area, draws, monkeypatch)
        assert 0 <= box.top <= size[0] - box.height
        assert 0 <= box.left <= size[1] - box.width
        assert min(box.height, box.width) >= 1


def test_boxes_have_the_areas_and_aspects_that_were_asked_for():
    boxes = [random_resized_box(1000, 1000, 0.08, draws) for draws in crop_draws(0, 0, 4000)]
    areas = np.array([box.height * box.width / 1e6 for box in boxes])
    aspects = np.log([box.width / box.height for box in boxes])
    assert 0.079 < areas.min() < 0.09
    assert 0.95 < areas.max() <= 1.0
    assert abs(np.median(aspects)) < 0.02
    assert -0.29 < aspects.min() < -0.27
    assert 0.27 < aspects.max() < 0.29


def test_ten_misses_give_the_central_part():
    assert random_resized_box(64, 640, 0.5, np.full((10, 4), 0.9)) == central_box(64, 640) == Box(0, 277, 64, 85)
    assert random_resized_box(640, 64, 0.5, np.full((10, 4), 0.9)) == central_box(640, 64) == Box(277, 0, 85, 64)


def test_draws_are_even_and_every_row_step_and_seed_has_its_own():
    draws = crop_draws(0, 0, 2000)
    assert draws.shape == (2000, 10, 4)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.005
    assert abs(draws.std() - 12**-0.5) < 0.005
    others = [crop_draws(0, 1, 2000), crop_draws(1, 0, 2000), draws[::-1]]
    assert all((draws != other).all() for other in others)


def test_draws_are_the_same_for_ever():
    """Saved runs go on with them: these numbers may not change with a version of NumPy."""
    assert crop_draws(5, 7, 2)[1, 9].tolist() == GOLDEN
