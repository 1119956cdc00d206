"""What a step draws has the papers' numbers: both frameworks take it as given, so it is checked by itself."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from parity_tests.mutants.promises.base import Measured, Promise
from parity_tests.mutants.promises.steps import PROMISES as STEPS
from parity_tests.tolerances import EXACT
from train.config import AugmentConfig
from train.draws import block_rates, draw, step_key

DEPTH, RATE = 4, 0.3
B, H, W = 6, 32, 48
DRAWN = 16  # steps a seed
CUTMIX = AugmentConfig(cutmix_alpha=1.0)


RATES = {"linear": np.linspace(0, RATE, DEPTH), "constant": np.full(DEPTH, RATE)}


@partial(jax.jit, static_argnums=1)
def drawn(seed: int, schedule: str) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(drop_path, lam, box) of DRAWN steps."""

    def one(at: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        rates = block_rates(RATE, schedule, DEPTH)
        draws = draw(step_key(seed, at), CUTMIX, (B, H, W), drop_path=rates, dropout=False, dtype=jnp.float64)
        assert draws.drop_path is not None
        return draws.drop_path, draws.lam, draws.box

    return jax.vmap(one)(jnp.arange(DRAWN))


def measure(seed: int) -> Iterator[Measured]:
    for schedule, rates in RATES.items():
        factors, lams, boxes = (np.asarray(x) for x in drawn(seed, schedule))
        yield Measured(f"factors of {schedule} stochastic depth", from_factors(factors, rates), EXACT)
        yield Measured("sides of CutMix's boxes", max(map(from_box, lams, boxes)), EXACT)


def from_factors(factors: np.ndarray, rates: np.ndarray) -> float:
    """How far (..., depth, 2, B) is from 0 or 1 / keep (Huang et al. 2016, eq. 4)."""
    whole = 1 / (1 - rates[:, None, None])
    return float(np.minimum(np.abs(factors), np.abs(factors - whole)).max())


def from_box(lam: np.ndarray, box: np.ndarray) -> float:
    """By how many pixels a side is off: sqrt(1 - lam) of the image's, and no longer where the border cuts it (Yun et
    al. 2019, eq. 2)."""
    off = 0.0
    for begin, end, size in ((box[0], box[1], H), (box[2], box[3], W)):
        side = np.floor(np.float32(size) * np.sqrt(1 - np.float32(lam)))
        cut = begin == 0 or end == size
        off = max(off, end - begin - side, 0 if cut else side - (end - begin))
    return float(off)


PROMISES = {"draws": Promise(measure, STEPS["step: adamw"].conventional)}
