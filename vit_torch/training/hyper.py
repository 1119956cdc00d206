"""Hyper: the numbers of a run that its step needs."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Hyper:
    """The numbers of a run that the step needs, called as in vit-train's settings."""

    mean: tuple[float, ...]  # of the pixels, in 0..1, a channel each
    std: tuple[float, ...]
    padding: int = 0  # pixels around the image before the shifted crop
    label_smoothing: float = 0.0
    loss: Literal["softmax", "sigmoid"] = "softmax"  # cross-entropy over all classes, or binary for each
    binary_targets: bool = False  # sigmoid: every class with a share in a mixed target counts whole
    accumulate: int = 1  # equal parts that a batch is computed in
    frozen: tuple[str, ...] = ()  # not trained: hub names or patterns; !pattern: but not these
    clip_norm: float | None = None
    learning_rate: float  # at its peak
    warmup_steps: int
    total_steps: int
    final_fraction: float  # of the peak, reached at total_steps
    layer_decay: float | None = None  # learning rate of a block over that of the block after it
    rule: Literal["adamw", "lamb", "sgd", "muon"] = "adamw"
    weight_decay: float  # times the learning rate
    decay_times_peak: bool = True  # else times the rate's share of its peak alone
    beta1: float = 0.9  # memory of the gradient's mean; sgd, muon: the momentum
    beta2: float = 0.999  # memory of the gradient's square; sgd has none
    eps: float = 1e-8  # beside the root of the mean square, in adamw and lamb, and where muon has adamw
    nesterov: bool = False  # sgd: look ahead with the momentum
    ema_decay: float | None = None
