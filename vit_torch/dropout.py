"""Dropout with explicit randomness (Srivastava et al. 2014)."""

import torch
from torch import Tensor


def dropout(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Zeroes each value with probability `rate` and scales the rest by 1 / (1 - rate).

    Without randomness there is no dropout: no train or eval mode decides it, only this argument.
    """
    if generator is None or rate == 0:
        return x
    keep = torch.empty(x.shape, dtype=torch.bool, device=x.device).bernoulli_(1 - rate, generator=generator)
    return torch.where(keep, x / (1 - rate), 0)
