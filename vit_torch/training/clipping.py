"""The norm of all gradients, and clipping by it."""

from collections.abc import Mapping

import torch
from torch import Tensor


def global_norm(grads: Mapping[str, Tensor]) -> Tensor:
    """The Euclidean norm of all gradients taken as one vector."""
    return torch.stack([g.square().sum() for g in grads.values()]).sum().sqrt()


def clip(grads: Mapping[str, Tensor], max_norm: float) -> dict[str, Tensor]:
    """Pascanu et al. 2013, algorithm 1, as torch.nn.utils.clip_grad_norm_: with 1e-6 beside the norm."""
    factor = (max_norm / (global_norm(grads) + 1e-6)).clamp(max=1.0)
    return {name: g * factor for name, g in grads.items()}
