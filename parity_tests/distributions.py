"""Whether two sets of samples have the same distributions, name by name: moments, and Kolmogorov and Smirnov's test."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import stats

Samples = Mapping[str, npt.NDArray]  # name -> (N,)

# How often a whole comparison of equal distributions may say that they differ. Seeds are fixed, so it says the same in
# every run; each single test gets its share (Bonferroni).
FALSE_ALARM = 1e-3
POWERS = {"mean": 1, "mean square": 2, "mean fourth power": 4}


def check_same(ours: Samples, theirs: Samples) -> None:
    """What is constant has the same value, and what is random the same distribution.

    Raises:
        AssertionError: other names, or "NAME: its STATISTIC differs (p = ...)".
    """
    assert set(ours) == set(theirs), f"names differ: {set(ours) ^ set(theirs)}"
    random = [name for name, x in theirs.items() if np.ptp(x)]
    for name in [name for name in theirs if name not in random]:
        found, expected = np.unique(ours[name]), np.unique(theirs[name])
        assert np.array_equal(found, expected), f"{name}: its values differ: {found[:3]} and {expected}"
    least = FALSE_ALARM / max(1, len(random) * (1 + len(POWERS)))
    for name in random:
        for statistic, p in p_values(ours[name], theirs[name]).items():
            assert p > least, f"{name}: its {statistic} differs (p = {p:.1e}, at least {least:.1e} asked)"


def p_values(x: npt.NDArray, y: npt.NDArray) -> dict[str, float]:
    """Statistic -> how often samples of one distribution are as far apart by chance."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    _, p = cast(tuple[float, float], stats.ks_2samp(x, y))
    return {name: moment_p(x**power, y**power) for name, power in POWERS.items()} | {"distribution function": p}


def moment_p(x: npt.NDArray, y: npt.NDArray) -> float:
    """Of the difference of two means over its standard error, which is normal for samples as large as ours."""
    error = np.sqrt(x.var() / x.size + y.var() / y.size)
    return float(2 * stats.norm.sf(abs(x.mean() - y.mean()) / error))
