"""float32 and bfloat16 are judged by their noise: errors against the float64 truth, ours beside PyTorch's."""

from collections.abc import Mapping

import torch

import vit_torch
from parity_tests.compare import kinds, noise, sizes
from parity_tests.pairs import Arrays, held_exactly, randomise
from parity_tests.tolerances import NOISE_RATIO
from vit_convert.config import ViTConfig

__all__ = ["check_ratios", "held_exactly", "in_dtype", "noise_by_kind"]


def in_dtype(config: ViTConfig, dtype: str) -> tuple[vit_torch.ViT, vit_torch.ViT]:
    """(float64, in dtype) of the same weights, which are rounded once, for both."""
    rounded = vit_torch.ViT(config).double()
    randomise(rounded, seed=3)
    rounded.to(getattr(torch, dtype))
    truth = vit_torch.ViT(config).double()
    truth.load_state_dict({name: x.double() for name, x in rounded.state_dict().items()})
    return truth, rounded


def noise_by_kind(found: Arrays, truth: Arrays) -> dict[str, float]:
    """`compare.noise` by kind of parameter, of all blocks: one bias alone has too few values for a steady mean."""
    known = sizes(truth)
    return {kind: noise(found, truth, names, known) for kind, names in kinds(truth).items()}


def check_ratios(ours: Mapping[str, float], theirs: Mapping[str, float]) -> None:
    """
    Raises:
        AssertionError: one of our errors is more than NOISE_RATIO of PyTorch's.
    """
    ratios = {name: ours[name] / theirs[name] for name in theirs}
    worst = max(ratios, key=lambda name: ratios[name])
    assert ratios[worst] <= NOISE_RATIO, f"{worst}: {ratios[worst]:.2f} times PyTorch's error"
