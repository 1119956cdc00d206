"""The train step: one pure function of (state, batch). Its specification is `vit_torch/training`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from train import accumulate, augment, optimizer, schedule
from train.accumulate import Inputs
from train.config import TrainConfig
from train.draws import Draws, block_rates, draw, step_key
from train.losses import LOSSES, binarised
from train.optimizer.frozen import partition
from vit_flax.names import parameters_by_path

Params = dict[str, Array]


class State(NamedTuple):
    """What a step reads and replaces: a plain pytree."""

    step: Array  # () int32: updates made
    params: Params  # by Flax path
    opt_state: Any  # of optax
    ema: Params | None  # averaged parameters, where the config has them


class Batch(NamedTuple):
    """images (B, H, W, C) uint8, labels (B,) integers."""

    images: Array
    labels: Array


def split_model(model: nnx.Module) -> tuple[Callable[[Params], Any], Params]:
    """(merge, params): parameters by path, joined by dots; merge(params) is the model with those.

    Raises:
        ValueError: the model holds state that is no parameter (say a random key): a step could not be pure.
    """
    graphdef, state, rest = nnx.split(model, nnx.Param, ...)
    if jax.tree.leaves(rest):
        raise ValueError(f"a model to train holds parameters only, got also {[p for p, _ in nnx.to_flat_state(rest)]}")
    paths = {".".join(map(str, path)): path for path, _ in nnx.to_flat_state(state)}

    def merge(params: Params) -> Any:
        return nnx.merge(
            graphdef, nnx.from_flat_state([(path, nnx.Param(params[name])) for name, path in paths.items()])
        )

    return merge, {name: param.get_value() for name, param in parameters_by_path(model).items()}


@dataclass(frozen=True)
class Step:
    """The step of one run: `init` makes its state, `train_step` moves it on, `update` is what follows the draws."""

    config: TrainConfig
    merge: Callable[[Params], Any]
    mean: tuple[float, ...]  # of the pixels in 0..1, a channel each
    std: tuple[float, ...]
    warmup_steps: int
    total_steps: int
    param_dtype: DTypeLike = jnp.float32
    gathered: Callable[[Any], Any] = lambda function: function  # Placement.gathered, where there is one

    def init(self, params: Params) -> State:
        """The state before the first step; the EMA begins at the initial parameters."""
        ema = None if self.config.ema_decay is None else jax.tree.map(jnp.copy, params)
        trained, _ = partition(params, self.config.optimizer.frozen)
        return State(jnp.zeros((), jnp.int32), params, optimizer.make(self.config).init(trained), ema)

    def train_step(self, state: State, batch: Batch) -> tuple[State, dict[str, Array]]:
        """One step; its draws come from (seed, step). Metrics: loss, accuracy, grad_norm, learning_rate."""
        B, H, W, _ = batch.images.shape
        return self.update(state, batch, self.draw(step_key(self.config.seed, state.step), (B, H, W)))

    def draw(self, key: Array, shape: tuple[int, int, int]) -> Draws:
        """The draws of one step for a batch of (B, H, W)."""
        c = self.config
        dropout = c.dropout > 0 or c.attn_dropout > 0
        rates = block_rates(c.drop_path, c.drop_path_schedule, c.model.depth)
        return draw(key, c.augment, shape, drop_path=rates, dropout=dropout, dtype=self.param_dtype)

    def update(self, state: State, batch: Batch, draws: Draws) -> tuple[State, dict[str, Array]]:
        """One step, given the draws. Accuracy counts the class with the most weight in the mixed target.

        With on_nonfinite "skip" an update whose loss or gradient is infinite or no number is left out: the step counts,
        and nothing else moves; the metric `skipped` is 1 then.
        """
        given, parts = self.config.optimizer, self.config.optimizer.accumulate
        trained, frozen = partition(state.params, given.frozen)
        loss_of = partial(self.gathered(self.loss), frozen)
        (loss, accuracy), grads = accumulate.value_and_grad(loss_of, trained, self.inputs(batch, draws), parts)
        rate = self.learning_rate(state.step)
        updates, opt_state = optimizer.make(self.config).update(grads, state.opt_state, trained, learning_rate=rate)
        moved: Any = optax.apply_updates(trained, updates)
        metrics = {
            "loss": loss,
            "accuracy": accuracy,
            "grad_norm": optimizer.global_norm(grads),
            "learning_rate": rate,
        }
        after = State(state.step + 1, frozen | moved, opt_state, self.average(state.ema, moved))
        if self.config.on_nonfinite == "skip":
            finite = jnp.isfinite(loss) & jnp.isfinite(metrics["grad_norm"])
            kept = state._replace(step=after.step)
            after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, kept)
            metrics["skipped"] = 1 - finite.astype(loss.dtype)
        return after, metrics

    def inputs(self, batch: Batch, draws: Draws) -> Inputs:
        """One batch as the model and the loss get it: augmented, mixed, its labels as targets."""
        a, (images, labels) = self.config.augment, batch
        x = augment.apply(images, draws, a, self.mean, self.std, self.param_dtype)
        (_, H, W, _), num_classes = images.shape, self.config.model.num_classes
        targets = augment.targets(labels, draws, (H, W), num_classes, a.label_smoothing)
        return Inputs(x, targets, draws.drop_path, draws.dropout)

    def loss(self, frozen: Params, trained: Params, inputs: Inputs) -> tuple[Array, Array]:
        """(loss, accuracy) of one augmented batch."""
        x, targets, drop_path, dropout = inputs
        logits = self.merge(frozen | trained)(x, drop_path=drop_path, key=dropout)
        accuracy = jnp.mean(logits.argmax(-1) == targets.argmax(-1), dtype=self.param_dtype)
        wanted = binarised(targets) if self.config.binary_targets else targets
        return LOSSES[self.config.loss](logits, wanted), accuracy

    def learning_rate(self, step: Array) -> Array:
        """The rate of the update that leads from step to step + 1."""
        s = self.config.schedule
        return schedule.learning_rate(
            step,
            peak=s.learning_rate,
            warmup_steps=self.warmup_steps,
            total_steps=self.total_steps,
            final_fraction=s.final_fraction,
            dtype=self.param_dtype,
        )

    def average(self, ema: Params | None, trained: Params) -> Params | None:
        """The moving average after an update: ema <- decay * ema + (1 - decay) * params; of what is frozen, itself."""
        decay = self.config.ema_decay
        if ema is None or decay is None:
            return None
        return ema | {path: decay * ema[path] + (1 - decay) * p for path, p in trained.items()}
