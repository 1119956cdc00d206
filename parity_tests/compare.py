"""How far apart two results are, as the suite measures it."""

import re
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from parity_tests.tolerances import GRADIENT_FLOOR, ZERO_GRADIENT

Arrays = Mapping[str, npt.NDArray]


def gap(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> float:
    """Largest difference, as a part of the largest magnitude of `theirs`.

    Raises:
        AssertionError: different shapes, or a value that is not finite.
    """
    a, b = _both(ours, theirs)
    largest = np.abs(b).max(initial=0)
    return float(np.abs(a - b).max(initial=0) / largest) if largest else float(np.abs(a).max(initial=0))


def gaps(ours: Arrays, theirs: Arrays) -> dict[str, float]:
    """`gap` by name; both must have the same names."""
    assert set(ours) == set(theirs), f"names differ: {set(ours) ^ set(theirs)}"
    return {name: gap(ours[name], theirs[name]) for name in theirs}


def leaf_gaps(ours: Arrays, theirs: Arrays) -> dict[str, float]:
    """By leaf: largest difference over max(its own largest, a thousandth of the largest anywhere)."""
    assert set(ours) == set(theirs), f"names differ: {set(ours) ^ set(theirs)}"
    anywhere = max(float(np.abs(x).max()) for x in theirs.values())
    result = {}
    for name, b in theirs.items():
        a = np.asarray(ours[name])
        assert a.shape == b.shape, f"{name}: shapes differ: {a.shape} and {b.shape}"
        assert np.isfinite(a).all(), f"{name}: a value is not finite"
        result[name] = float(np.abs(a - b).max() / max(np.abs(b).max(), GRADIENT_FLOOR * anywhere))
    return result


def apart(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> float:
    """Largest difference as it is, for values whose size is known.

    Raises:
        AssertionError: different shapes, or a value that is not finite.
    """
    a, b = _both(ours, theirs)
    return float(np.abs(a - b).max(initial=0))


def elementwise(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> float:
    """Largest difference of two values, as a part of the value itself; infinite where one of them alone is zero.

    Raises:
        AssertionError: different shapes, or a value that is not finite.
    """
    a, b = _both(ours, theirs)
    difference = np.abs(a - b)
    parts = np.divide(difference, np.abs(b), out=np.where(difference > 0, np.inf, 0), where=b != 0)
    return float(parts.max(initial=0))


def _both(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """As float64, once they are known to be comparable."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert a.shape == b.shape, f"shapes differ: {a.shape} and {b.shape}"
    assert np.isfinite(a).all(), "a value is not finite"
    assert np.isfinite(b).all(), "a value is not finite"
    return a, b


def rms(x: npt.ArrayLike) -> float:
    """Root mean square; infinite where a value is not finite: NaN would be passed over by a maximum."""
    found = float(np.sqrt(np.mean(np.square(np.asarray(x, np.float64)))))
    return found if np.isfinite(found) else np.inf


def kinds(names: Iterable[str]) -> dict[str, list[str]]:
    """Tensors' names by what they are, those of all blocks together: "blocks.attn.qkv.bias" -> every block's."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(re.sub(r"[.][0-9]+[.]", ".", name), []).append(name)
    return found


def sizes(truth: Arrays) -> dict[str, float]:
    """Root mean square of each tensor; the largest of all where it is zero but for ZERO_GRADIENT of that."""
    own = {name: rms(x) for name, x in truth.items()}
    largest = max(own.values()) or 1.0  # what is all zero has no size to be a part of
    return {name: size if size > ZERO_GRADIENT * largest else largest for name, size in own.items()}


def noise(found: Arrays, truth: Arrays, names: Iterable[str], known: Mapping[str, float] | None = None) -> float:
    """Root mean square of the errors of several tensors, each one's as a part of its size.

    Args:
        known: sizes(truth), where it is asked of many.
    """
    of = sizes(truth) if known is None else known
    return rms(np.concatenate([((found[name] - truth[name]) / of[name]).ravel() for name in names]))


def times(ours: float, theirs: float) -> float:
    """How many times an error another one is: once if there is none in either, infinitely if ours is infinite."""
    if not np.isfinite(ours):
        return np.inf
    return ours / theirs if theirs else (np.inf if ours else 1.0)


def worst(found: Mapping[str, float]) -> str:
    """For messages: the name and size of the largest gap."""
    name = max(found, key=lambda key: found[key])
    return f"{name} differs by {found[name]:.2e}"
