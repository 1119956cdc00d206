"""What training makes small: (logits (B, K), targets (B, K)) -> ()."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-sum_k t_k log softmax(logits)_k, averaged over the batch."""
    return -(targets * F.log_softmax(logits, dim=-1)).sum(-1).mean()


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-(t_k log sigmoid(logits)_k + (1 - t_k) log sigmoid(-logits)_k), averaged over classes and batch, as timm's
    (loss/binary_cross_entropy.py); big_vision's sigmoid_xent is the sum over classes."""
    return -(targets * F.logsigmoid(logits) + (1 - targets) * F.logsigmoid(-logits)).mean()


def binarised(targets: Tensor) -> Tensor:
    """1 for every class with a share in the target, else 0: what DeiT III gives its loss (facebookresearch/deit,
    engine.py, `targets.gt(0.0)`; Wightman et al. 2021, section 3.1)."""
    return (targets > 0).to(targets.dtype)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "softmax": soft_cross_entropy,
    "sigmoid": binary_cross_entropy,
}
