"""How far the two frameworks are apart in one dtype, from both of their runs and the float64 truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from parity_tests.compare import gap, kinds, leaf_gaps, noise, rms, sizes, times
from parity_tests.pairs import Arrays
from parity_tests.verify.run import OUTPUT, Run

# The ratio of two root mean squares over n independent errors scatters by 1 / sqrt(n): 4% of these. Gradients of
# tensors with fewer values, such as a small model's biases, are judged together.
NOISE_VALUES = 512
CHANCE = 1e-6  # that a bound is passed by chance, where there are few values
FEW = f"tensors of fewer than {NOISE_VALUES} values"


class Errors(NamedTuple):
    """Root mean squares of both sides' distances from the float64 truth, as parts of its own."""

    torch: float
    flax: float
    values: int = NOISE_VALUES  # that they are of, or at least so many

    @property
    def ratio(self) -> float:
        """Flax's error over PyTorch's."""
        return times(self.flax, self.torch)


def scatter(values: int) -> float:
    """How many times as large as of NOISE_VALUES the ratio of so few may be by chance: the logits of two images and
    two classes say little of noise. Of independent normal errors its square has Fisher's F distribution."""
    if values >= NOISE_VALUES:
        return 1.0
    few, usual = (float(stats.f.isf(CHANCE, n, n)) ** 0.5 for n in (values, NOISE_VALUES))
    return few / usual


class Product(NamedTuple):
    """A matrix product by itself, of random matrices."""

    length: int  # terms of each of its sums
    errors: Errors


@dataclass(frozen=True)
class Exact:
    """float64: Flax against PyTorch."""

    gaps: Mapping[str, float]  # intermediate -> largest difference over the largest magnitude
    gradients: Mapping[str, float]  # leaf -> the same, with the floor of compare.leaf_gaps


@dataclass(frozen=True)
class Rounded:
    """A dtype that rounds: both sides against the float64 truth of the same weights and images."""

    layers: Mapping[str, Errors]  # by intermediate
    gradients: Mapping[str, Errors]  # by kind of tensor; those with few values together
    products: Mapping[str, Product]  # what each kind of the model's products costs alone


@dataclass(frozen=True)
class Predictions:
    """The class that each side puts first, image by image; nothing for a model without a head."""

    torch: tuple[int, ...]
    flax: tuple[int, ...]
    exact: tuple[int, ...]  # PyTorch in float64, of the same weights
    close: tuple[bool, ...]  # whether rounding may exchange the first two, so that nothing is asked of the image

    @property
    def same(self) -> int:
        """Images that Flax puts where PyTorch does, but for those that are too close to call."""
        rows = zip(self.torch, self.flax, self.close, strict=True)
        return sum(a == b for a, b, close in rows if not close)


def compare_exact(torch: Run, flax: Run) -> Exact:
    return Exact(all_gaps(flax.arrays, torch.arrays), leaf_gaps_or_infinite(flax.gradients, torch.gradients))


def compare_rounded(torch: Run, flax: Run, truth: Run, products: Mapping[str, Product]) -> Rounded:
    layers = {
        name: Errors(relative(torch.arrays[name], exact), relative(flax.arrays[name], exact), exact.size)
        for name, exact in truth.arrays.items()
    }
    groups = by_kind(truth.gradients)
    known = sizes(truth.gradients) if groups else {}
    gradients = {
        kind: Errors(
            noise(torch.gradients, truth.gradients, names, known),
            noise(flax.gradients, truth.gradients, names, known),
            sum(truth.gradients[name].size for name in names),
        )
        for kind, names in groups.items()
    }
    return Rounded(layers, gradients, products)


def predict(torch: Run, flax: Run, truth: Run, times: float = 1.0) -> Predictions:
    """The classes; an image is too close to call if its exact margin is no more than two errors of what is allowed.

    It is PyTorch's error that counts: with Flax's own, a larger one would excuse itself.

    Args:
        times: how many times PyTorch's error Flax's may be.
    """
    theirs, ours, exact = (tuple(run.arrays[OUTPUT].argmax(-1).tolist()) for run in (torch, flax, truth))
    allowed = times * float(np.abs(torch.arrays[OUTPUT] - truth.arrays[OUTPUT]).max())
    close = () if truth is torch else tuple(bool(m <= 2 * allowed) for m in margins(truth.arrays[OUTPUT]))
    return Predictions(theirs, ours, exact, close or (False,) * len(torch.arrays[OUTPUT]))


def margins(logits: np.ndarray) -> np.ndarray:
    """By image, how far the largest logit is above the next; a single class has none."""
    if logits.shape[-1] == 1:
        return np.full(len(logits), np.inf)
    second, first = np.sort(logits, axis=-1)[:, -2:].T
    return first - second


def all_gaps(ours: Arrays, theirs: Arrays) -> dict[str, float]:
    """`compare.gap` by name; infinite where ours isn't finite."""
    return {name: gap(ours[name], theirs[name]) if np.isfinite(ours[name]).all() else np.inf for name in theirs}


def leaf_gaps_or_infinite(ours: Arrays, theirs: Arrays) -> dict[str, float]:
    """`compare.leaf_gaps` by leaf; infinite where ours isn't finite."""
    lost = [name for name, array in ours.items() if not np.isfinite(array).all()]
    finite = {name: theirs[name] if name in lost else array for name, array in ours.items()}
    return leaf_gaps(finite, theirs) | dict.fromkeys(lost, np.inf)


def relative(found: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square of the error, as a part of the truth's own."""
    return rms(found - truth) / (rms(truth) or 1.0)


def by_kind(gradients: Arrays) -> dict[str, list[str]]:
    """Tensors' names by kind; those of kinds that have few values are one group."""
    groups: dict[str, list[str]] = {}
    for kind, names in kinds(gradients).items():
        few = sum(gradients[name].size for name in names) < NOISE_VALUES
        groups.setdefault(FEW if few else kind, []).extend(names)
    return groups
