"""The train step: one pure function of (state, batch). Its specification is `vit_torch/training.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from train import augment, optimizer, schedule
from train.config import TrainConfig
from train.draws import Draws, draw, step_key
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


def soft_cross_entropy(logits: Array, targets: Array) -> Array:
    """-sum_k t_k log softmax(logits)_k, averaged over the batch: (B, K), (B, K) -> (). Never below float32."""
    logits = logits.astype(jnp.promote_types(logits.dtype, targets.dtype))
    return -(targets * jax.nn.log_softmax(logits, axis=-1)).sum(-1).mean()


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

    def init(self, params: Params) -> State:
        """The state before the first step; the EMA begins at the initial parameters."""
        ema = None if self.config.ema_decay is None else jax.tree.map(jnp.copy, params)
        return State(jnp.zeros((), jnp.int32), params, optimizer.adamw(self.config.optimizer).init(params), ema)

    def train_step(self, state: State, batch: Batch) -> tuple[State, dict[str, Array]]:
        """One step; its draws come from (seed, step). Metrics: loss, accuracy, grad_norm, learning_rate."""
        B, H, W, _ = batch.images.shape
        return self.update(state, batch, self.draw(step_key(self.config.seed, state.step), (B, H, W)))

    def draw(self, key: Array, shape: tuple[int, int, int]) -> Draws:
        """The draws of one step for a batch of (B, H, W)."""
        c = self.config
        dropout = c.dropout > 0 or c.attn_dropout > 0
        depth, dtype = c.model.depth, self.param_dtype
        return draw(key, c.augment, shape, depth=depth, drop_path=c.drop_path, dropout=dropout, dtype=dtype)

    def update(self, state: State, batch: Batch, draws: Draws) -> tuple[State, dict[str, Array]]:
        """One step, given the draws. Accuracy counts the class with the most weight in the mixed target."""
        (loss, accuracy), grads = jax.value_and_grad(self.loss, has_aux=True)(state.params, batch, draws)
        rate = self.learning_rate(state.step)
        transform = optimizer.adamw(self.config.optimizer)
        updates, opt_state = transform.update(grads, state.opt_state, state.params, learning_rate=rate)
        params: Any = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": loss,
            "accuracy": accuracy,
            "grad_norm": optimizer.global_norm(grads),
            "learning_rate": rate,
        }
        return State(state.step + 1, params, opt_state, self.average(state.ema, params)), metrics

    def loss(self, params: Params, batch: Batch, draws: Draws) -> tuple[Array, Array]:
        """(loss, accuracy) of one augmented batch."""
        a, (images, labels) = self.config.augment, batch
        x = augment.apply(images, draws, a, self.mean, self.std, self.param_dtype)
        (_, H, W, _), num_classes = images.shape, self.config.model.num_classes
        targets = augment.targets(labels, draws, (H, W), num_classes, a.label_smoothing)
        logits = self.merge(params)(x, drop_path=draws.drop_path, key=draws.dropout)
        accuracy = jnp.mean(logits.argmax(-1) == targets.argmax(-1), dtype=self.param_dtype)
        return soft_cross_entropy(logits, targets), accuracy

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

    def average(self, ema: Params | None, params: Params) -> Params | None:
        """The moving average after an update: ema <- decay * ema + (1 - decay) * params."""
        decay = self.config.ema_decay
        if ema is None or decay is None:
            return None
        return jax.tree.map(lambda e, p: decay * e + (1 - decay) * p, ema, params)
