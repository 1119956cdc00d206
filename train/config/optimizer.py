"""OptimizerConfig and ScheduleConfig: how gradients become updates."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from train.config.checks import Check, at_least, positive, share


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The update rule. Decay is of the kernels of linear and patch layers; all else is spared."""

    name: Literal["adamw", "lamb", "sgd", "adafactor", "muon"] = "adamw"  # the rule
    weight_decay: float = 0.05  # strength
    # decay is times the learning rate, as in torch and timm; else times the rate's share of its peak, as in big_vision
    decay_times_peak: bool = True
    beta1: float = 0.9  # memory of the gradient's mean; sgd, muon: the momentum
    beta2: float = 0.999  # memory of the gradient's square; adafactor: at most; sgd has none
    eps: float = 1e-8  # beside the root of the mean square, in adamw and lamb, and where muon has adamw
    nesterov: bool = False  # sgd: look ahead with the momentum
    clip_norm: float | None = 1.0  # largest norm of all gradients together; None: no clipping
    accumulate: int = 1  # parts that a batch is computed in, one after the other; the update is the whole batch's
    layer_decay: float | None = None  # learning rate of a block over that of the block after it; None: the same for all
    frozen: tuple[str, ...] = ()  # not trained: hub names or patterns (blocks.0.*, !head.*: but not these)

    def checks(self) -> Iterator[Check]:
        """What the values have to be."""
        yield at_least("optimizer.weight_decay", self.weight_decay, 0)
        yield share("optimizer.beta1", self.beta1)
        yield share("optimizer.beta2", self.beta2)
        yield positive("optimizer.eps", self.eps)
        yield positive("optimizer.clip_norm", self.clip_norm)
        yield at_least("optimizer.accumulate", self.accumulate, 1)
        holds = self.layer_decay is None or 0 < self.layer_decay <= 1
        yield holds, f"optimizer.layer_decay must be in (0, 1], got {self.layer_decay}"
        sgd = self.name == "sgd" or not self.nesterov
        yield sgd, f"optimizer.nesterov is sgd's, and optimizer.name is {self.name}"
        if self.name == "lamb":
            inside = "optimizer.decay_times_peak: lamb's decay is a part of its trust ratio, and can't be off the rate"
            yield self.decay_times_peak, inside


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Linear warmup from 0, then a cosine. By step."""

    learning_rate: float = 1e-3  # at the peak
    warmup_epochs: float = 5.0  # until the peak
    final_fraction: float = 0.0  # of the peak, where the cosine ends: one step after the last

    def checks(self) -> Iterator[Check]:
        """What the values have to be."""
        yield positive("schedule.learning_rate", self.learning_rate)
        yield at_least("schedule.warmup_epochs", self.warmup_epochs, 0)
        yield share("schedule.final_fraction", self.final_fraction, one=True)
