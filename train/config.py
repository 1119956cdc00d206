"""TrainConfig: everything that decides a training run. What a field means stands beside it, and `--help` shows it.

The architecture is `vit_convert.ViTConfig`; the values here are the run's.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from vit_convert.config import ViTConfig


class ConfigError(ValueError):
    """The user asked for something that cannot be run; the message says what to change."""


class NonFiniteLoss(RuntimeError):
    """The loss became infinite or no number; the message says at which step and learning rate."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What happens to a training batch on the device, in this order."""

    padding: int = 0  # black pixels around the image, of which a random crop of the old size is taken; 0: off
    flip: bool = False  # mirror left and right, half of the images
    mixup_alpha: float = 0.0  # MixUp's share is drawn from Beta(alpha, alpha); 0: no MixUp
    cutmix_alpha: float = 0.0  # CutMix's share is drawn from Beta(alpha, alpha); 0: no CutMix
    cutmix_share: float = 0.5  # of the mixed batches, where both are on
    mix_share: float = 1.0  # of the batches that are mixed at all
    label_smoothing: float = 0.0  # spread evenly over all classes


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Initial values other than the model's own, which suit wide models: 0.02 is far below 1/sqrt(64)."""

    fan_in_kernels: bool = False  # kernels in the blocks with variance 1/fan_in (LeCun et al. 1998, section 4.6)
    pos_embed_std: float | None = None  # of learned positions; None: the model's own


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW, with decay times the learning rate as in torch and timm."""

    weight_decay: float = 0.05  # of the kernels of linear and patch layers; all else is spared
    beta1: float = 0.9  # memory of the gradient's mean
    beta2: float = 0.999  # memory of the gradient's square
    eps: float = 1e-8  # beside the root of the mean square
    clip_norm: float | None = 1.0  # largest norm of all gradients together; None: no clipping


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Linear warmup from 0, then a cosine. By step."""

    learning_rate: float = 1e-3  # at the peak
    warmup_epochs: float = 5.0  # until the peak
    final_fraction: float = 0.0  # of the peak, reached with the last step


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    model: ViTConfig  # the architecture
    dataset: Literal["digits"]  # where images and labels come from
    init: InitConfig = field(default_factory=InitConfig)  # where training starts
    augment: AugmentConfig = field(default_factory=AugmentConfig)  # of training images
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)  # how gradients become updates
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)  # the learning rate over time
    seed: int = 0  # decides initial weights, order of examples and every draw
    batch_size: int = 128  # images a step
    epochs: float = 1.0  # passes over the training images
    steps: int | None = None  # length of the run in steps; None: as epochs says
    dtype: Literal["float32", "bfloat16"] = "float32"  # of computation; parameters stay float32
    dropout: float = 0.0  # after the embeddings and in both branches
    attn_dropout: float = 0.0  # on attention weights
    drop_path: float = 0.0  # stochastic depth: rate at the last block, growing linearly from 0
    ema_decay: float | None = None  # of the averaged weights, which are then evaluated and saved; None: off
    eval_epochs: float = 1.0  # epochs between evaluations; the end is always evaluated
    log_steps: int = 20  # steps between lines of metrics.jsonl

    def __post_init__(self) -> None:
        wrong = [message for ok, message in _conditions(self) if not ok]
        if wrong:
            raise ConfigError("; ".join(wrong))

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return asdict(self)

    def steps_per_epoch(self, num_examples: int) -> int:
        """Whole batches in one pass; the examples left over change from epoch to epoch.

        Raises:
            ConfigError: not even one batch.
        """
        if num_examples < self.batch_size:
            raise ConfigError(f"batch_size {self.batch_size} is more than the {num_examples} training images")
        return num_examples // self.batch_size

    def total_steps(self, num_examples: int) -> int:
        """How many updates the run makes."""
        return self.steps or max(1, round(self.epochs * self.steps_per_epoch(num_examples)))

    def warmup_steps(self, num_examples: int) -> int:
        """How many of them warm up: never more than the run has."""
        wanted = round(self.schedule.warmup_epochs * self.steps_per_epoch(num_examples))
        return min(wanted, self.total_steps(num_examples))


def _conditions(c: TrainConfig) -> list[tuple[bool, str]]:
    def at_least(name: str, value: float, least: float) -> tuple[bool, str]:
        return value >= least, f"{name} must be at least {least}, got {value}"

    def share(name: str, value: float, *, one: bool = False) -> tuple[bool, str]:
        end = "]" if one else ")"
        return 0 <= value < 1 or (one and value == 1), f"{name} must be in [0, 1{end}, got {value}"

    def positive(name: str, value: float | None) -> tuple[bool, str]:
        return value is None or value > 0, f"{name} must be positive, got {value}"

    a, o, s = c.augment, c.optimizer, c.schedule
    return [
        at_least("model.num_classes", c.model.num_classes, 1),
        positive("init.pos_embed_std", c.init.pos_embed_std),
        at_least("augment.padding", a.padding, 0),
        at_least("augment.mixup_alpha", a.mixup_alpha, 0),
        at_least("augment.cutmix_alpha", a.cutmix_alpha, 0),
        share("augment.cutmix_share", a.cutmix_share, one=True),
        share("augment.mix_share", a.mix_share, one=True),
        share("augment.label_smoothing", a.label_smoothing),
        at_least("optimizer.weight_decay", o.weight_decay, 0),
        share("optimizer.beta1", o.beta1),
        share("optimizer.beta2", o.beta2),
        positive("optimizer.eps", o.eps),
        positive("optimizer.clip_norm", o.clip_norm),
        positive("schedule.learning_rate", s.learning_rate),
        at_least("schedule.warmup_epochs", s.warmup_epochs, 0),
        share("schedule.final_fraction", s.final_fraction, one=True),
        at_least("seed", c.seed, 0),
        at_least("batch_size", c.batch_size, 1),
        positive("epochs", c.epochs),
        positive("steps", c.steps),
        share("dropout", c.dropout),
        share("attn_dropout", c.attn_dropout),
        share("drop_path", c.drop_path),
        share("ema_decay", c.ema_decay or 0.0),
        positive("eval_epochs", c.eval_epochs),
        at_least("log_steps", c.log_steps, 1),
    ]
