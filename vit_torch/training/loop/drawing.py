"""The loop's randomness: which examples a step sees, and its draws, each a function of (seed, step) alone.

NumPy's generators draw here and JAX's in the trainer: other numbers, the same distributions.
"""

from dataclasses import dataclass

import numpy as np
import torch

from vit_torch.training.draws import Draws

ORDER, STEP = 0, 1  # what of a seed is drawn


@dataclass(frozen=True, kw_only=True)
class Chances:
    """How the draws of a step fall; called as in vit-train's settings."""

    padding: int = 0
    flip: bool = False
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    cutmix_share: float = 0.5
    mix_share: float = 1.0
    drop_path: float = 0.0
    drop_path_schedule: str = "linear"
    dropout: bool = False


def batch_indices(seed: int, step: int, num_examples: int, batch_size: int) -> np.ndarray:
    """The examples of a step: (batch_size,). Each epoch is another permutation; what fills no batch is left out."""
    epoch, at = divmod(step, num_examples // batch_size)
    order = np.random.default_rng([seed, ORDER, epoch]).permutation(num_examples)
    return order[at * batch_size : (at + 1) * batch_size]


def draw(seed: int, step: int, shape: tuple[int, int, int], depth: int, chances: Chances, dtype: torch.dtype) -> Draws:
    """One step's draws for a batch of (B, H, W), multipliers in dtype."""
    rng, (B, H, W) = np.random.default_rng([seed, STEP, step]), shape
    use_cutmix, lam = _mixing(rng, chances)
    return Draws(
        corner=torch.tensor(rng.integers(0, 2 * chances.padding + 1, (B, 2))),
        flip=torch.tensor(rng.random(B) < 0.5) & chances.flip,
        use_cutmix=use_cutmix,
        lam=lam,
        box=_box(rng, lam, H, W),
        partner=torch.tensor(rng.permutation(B)),
        drop_path=_drop_path(rng, (depth, 2, B), chances, dtype) if chances.drop_path else None,
        dropout=torch.Generator().manual_seed(int(rng.integers(2**62))) if chances.dropout else None,
    )


def _mixing(rng: np.random.Generator, chances: Chances) -> tuple[bool, float]:
    """(use_cutmix, lam) of one batch; a batch that is not mixed has lam = 1."""
    mixup, cutmix = chances.mixup_alpha, chances.cutmix_alpha
    share = chances.cutmix_share if mixup and cutmix else float(cutmix > 0)
    use_cutmix, mixed = bool(rng.random() < share), bool(rng.random() < chances.mix_share)
    alpha = cutmix if use_cutmix else mixup
    if not mixed or not alpha:
        return False, 1.0
    return use_cutmix, float(rng.beta(alpha, alpha))


def _box(rng: np.random.Generator, lam: float, H: int, W: int) -> tuple[int, int, int, int]:
    """CutMix's rectangle (Yun et al. 2019, eq. 2): area 1 - lam about a uniform centre, cut off at the border."""
    (h, w), (y, x) = (int(n * (1 - lam) ** 0.5) for n in (H, W)), (int(rng.integers(n)) for n in (H, W))
    return max(0, y - h // 2), min(H, y + (h + 1) // 2), max(0, x - w // 2), min(W, x + (w + 1) // 2)


def _drop_path(
    rng: np.random.Generator, shape: tuple[int, int, int], chances: Chances, dtype: torch.dtype
) -> torch.Tensor:
    """Stochastic depth (Huang et al. 2016, eq. 4, here divided by keep at training as in timm/layers/drop.py)."""
    first = chances.drop_path if chances.drop_path_schedule == "constant" else 0.0
    keep = 1 - np.linspace(first, chances.drop_path, shape[0])[:, None, None]
    return torch.tensor((rng.random(shape) < keep) / keep, dtype=dtype)
