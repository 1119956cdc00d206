"""TrainConfig, and the parts of it that are about the run: where it starts, where it runs, what it keeps and logs."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from train.config.augment import AugmentConfig
from train.config.checks import Check, ConfigError, at_least, below, check_all, finite, positive, share
from train.config.data import DataConfig
from train.config.optimizer import OptimizerConfig, ScheduleConfig
from vit_convert.config import ViTConfig

LARGEST = 2**14  # pixels a side: an image of 16 x 16 patches has a million tokens then


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """Initial values other than the model's own, which suit wide models: 0.02 is far below 1/sqrt(64)."""

    fan_in_kernels: bool = False  # of blocks and pre_logits: variance 1/fan_in (LeCun et al. 1998, 4.6)
    pos_embed_std: float | None = None  # of learned positions; None: the model's own
    mimetic: bool = False  # attention begins near the identity, learned positions as sines and cosines
    zero_head: bool = False  # the head's kernel begins at zero
    head_bias: float = 0.0  # where the head's bias begins: -log(classes) suits a sigmoid loss
    layer_scale: float | None = None  # where layer scales begin; None: the model's own, 1e-5

    def checks(self) -> Iterator[Check]:
        """What the values have to be."""
        yield positive("start.pos_embed_std", self.pos_embed_std)
        yield positive("start.layer_scale", self.layer_scale)
        yield finite("start.head_bias", [self.head_bias])


@dataclass(frozen=True, kw_only=True)
class DevicesConfig:
    """How parameters lie on the devices. Neither batches nor draws depend on it."""

    fsdp: bool = False  # parameters and optimizer state in parts, one a device of the data axis; else a copy on each
    tensor: int = 1  # devices that share the columns and heads of every layer (Megatron's tensor parallelism)

    def checks(self) -> Iterator[Check]:
        """What the values have to be."""
        yield at_least("devices.tensor", self.tensor, 1)


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """What a run keeps to go on from, under WORKDIR/steps."""

    minutes: float | None = 10.0  # between saved steps, by the clock; None: by steps alone
    steps: int | None = None  # between saved steps; None: by the clock alone
    # saved steps: the latest ones. Of 1 nothing is left if its weights turn out to give no finite loss
    keep: int = 2

    def checks(self) -> Iterator[Check]:
        """What the values have to be."""
        yield positive("checkpoint.minutes", self.minutes)
        yield positive("checkpoint.steps", self.steps)
        yield at_least("checkpoint.keep", self.keep, 1)


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """What a run says, besides metrics.jsonl, which is always written."""

    steps: int = 20  # between lines of metrics.jsonl
    tensorboard: bool = False  # event files under WORKDIR/tensorboard as well
    wandb: str | None = None  # a Weights & Biases project that gets them as well

    def checks(self) -> Iterator[Check]:
        """What the values have to be."""
        yield at_least("log.steps", self.steps, 1)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    data: DataConfig  # where images and labels come from
    init: str | None = None  # a checkpoint of any layout to start from; None: from random values
    init_size: int | None = None  # pixels a side with init, whose positions are resized; None: the checkpoint's
    init_preset: str | None = None  # the name of init's model, where its file alone doesn't tell which it is
    init_set: tuple[str, ...] = ()  # fields of init's model, where nothing tells them: num_heads=6 norm_eps=1e-6
    start: StartConfig = field(default_factory=StartConfig)  # the values without init; with it, a new head's bias
    augment: AugmentConfig = field(default_factory=AugmentConfig)  # of training images
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)  # how gradients become updates
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)  # the learning rate over time
    devices: DevicesConfig = field(default_factory=DevicesConfig)  # where parameters lie
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)  # what is kept to go on from
    log: LogConfig = field(default_factory=LogConfig)  # what is said
    seed: int = 0  # decides initial weights, order of examples and every draw
    batch_size: int = 128  # images a step, over all devices and hosts
    epochs: float = 1.0  # passes over the training images
    steps: int | None = None  # length of the run in steps; None: as epochs says
    loss: Literal["softmax", "sigmoid"] = "softmax"  # cross-entropy over all classes, or binary for each
    binary_targets: bool = False  # sigmoid: every class with a share in a mixed target counts whole
    dtype: Literal["float32", "bfloat16"] = "float32"  # of computation; parameters stay float32
    attention: Literal["fused", "explicit", "cudnn"] = "fused"  # computed by XLA, or by cuDNN (NVIDIA, bfloat16)
    remat: bool = False  # compute each block's insides again in the backward pass instead of keeping them
    scan: bool = False  # one compiled block for all layers: compiles faster; checkpoints are the same
    dropout: float = 0.0  # after the embeddings and in both branches
    attn_dropout: float = 0.0  # on attention weights
    drop_path: float = 0.0  # stochastic depth: the rate at the last block
    drop_path_schedule: Literal["linear", "constant"] = (
        "linear"  # growing from 0 at the first block, or the same in all
    )
    ema_decay: float | None = None  # of the averaged weights, which are then evaluated and saved; None: off
    on_nonfinite: Literal["stop", "skip"] = "stop"  # infinite loss, or none: end the run, or leave that update out
    deterministic: bool = False  # on a GPU: only kernels that give the same bits every time
    eval_epochs: float = 1.0  # epochs between evaluations; the end is always evaluated
    model: ViTConfig  # the architecture; with init it is the checkpoint's, and these can't be given

    def __post_init__(self) -> None:
        check_all(self.checks())

    def checks(self) -> Iterator[Check]:
        """What the values have to be."""
        yield at_least("model.num_classes", self.model.num_classes, 1)
        for part in (self.data, self.start, self.augment, self.optimizer, self.schedule):
            yield from part.checks()
        for part in (self.devices, self.checkpoint, self.log):
            yield from part.checks()
        if self.init is None:  # with it the checkpoint decides, and is opened later
            yield from self.data.channel_checks(self.model.in_channels)
        waves = self.start.mimetic and self.model.pos_embed == "learned" and self.model.dim % 4
        yield not waves, f"start.mimetic needs a model.dim divisible by 4 for its waves, got {self.model.dim}"
        yield positive("init_size", self.init_size)
        yield below("init_size", self.init_size, LARGEST)
        yield below("model.image_size", max(self.model.image_hw), LARGEST)
        alone = self.init_size is None or self.init is not None
        yield alone, f"init_size {self.init_size} needs init; without it the size is model.image_size"
        alone = self.init_preset is None or self.init is not None
        yield alone, f"init_preset {self.init_preset} needs init; without it the model is what model.* says"
        alone = not self.init_set or self.init is not None
        yield alone, f"init_set {' '.join(self.init_set)} needs init; without it the model is what model.* says"
        yield 0 <= self.seed < 2**32, f"seed must be in [0, 2^32), got {self.seed}: JAX's keys tell no others apart"
        yield at_least("batch_size", self.batch_size, 1)
        yield positive("epochs", self.epochs)
        yield positive("steps", self.steps)
        yield below("steps", self.steps)
        yield share("dropout", self.dropout)
        yield share("attn_dropout", self.attn_dropout)
        yield share("drop_path", self.drop_path)
        yield share("ema_decay", self.ema_decay)
        yield positive("eval_epochs", self.eval_epochs)
        yield from self._kernel_checks()
        yield from self._target_checks()
        scaled = self.start.layer_scale is None or self.model.layer_scale or self.init is not None
        yield scaled, f"start.layer_scale {self.start.layer_scale} needs model.layer_scale"
        parts = self.optimizer.accumulate
        whole = parts < 1 or self.batch_size % parts == 0
        yield whole, f"batch_size {self.batch_size} can't be computed in optimizer.accumulate {parts} equal parts"

    def _kernel_checks(self) -> Iterator[Check]:
        if self.attention == "cudnn":
            yield self.dtype == "bfloat16", f"attention cudnn needs dtype bfloat16, got {self.dtype}"
            yield not self.attn_dropout, f"attention cudnn has no attn_dropout, got {self.attn_dropout}"
            head = self.model.head_dim
            yield head % 8 == 0 and head <= 256, f"attention cudnn takes heads of 8, 16, ... 256 channels, got {head}"

    def _target_checks(self) -> Iterator[Check]:
        if self.binary_targets:
            yield self.loss == "sigmoid", f"binary_targets needs loss sigmoid, got {self.loss}"
            smoothing = self.augment.label_smoothing
            yield not smoothing, f"binary_targets makes every smoothed class whole: augment.label_smoothing {smoothing}"

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON."""
        return _plain(asdict(self))

    def steps_per_epoch(self, num_examples: int) -> int:
        """Whole batches in one pass; the examples left over change from epoch to epoch.

        Raises:
            ConfigError: not even one batch.
        """
        if num_examples < self.batch_size:
            raise ConfigError(f"batch_size {self.batch_size} is more than the {num_examples} training images")
        return num_examples // self.batch_size

    def total_steps(self, num_examples: int) -> int:
        """How many updates the run makes.

        Raises:
            ConfigError: more than are counted.
        """
        steps = self.steps or max(1, round(self.epochs * self.steps_per_epoch(num_examples)))
        check_all([below(f"steps, of {self.epochs:g} epochs,", steps)])
        return steps

    def warmup_steps(self, num_examples: int) -> int:
        """How many of them warm up: never more than the run has."""
        wanted = round(self.schedule.warmup_epochs * self.steps_per_epoch(num_examples))
        return min(wanted, self.total_steps(num_examples))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return str(value) if isinstance(value, Path) else value
