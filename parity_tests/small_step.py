"""One train step of everything, small and in float64, and what it is given: to change one setting at a time."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from train.config import AugmentConfig, DataConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from train.draws import Draws, step_key
from train.model import make_model
from train.step import Batch, State, Step, split_model
from vit_convert.config import ViTConfig
from vit_flax import ViT

MODEL = ViTConfig(
    image_size=8, patch_size=4, dim=16, depth=2, num_heads=2, mlp_dim=24, num_classes=5, num_registers=1,
    layer_scale=True,
)  # fmt: skip
CONFIG = TrainConfig(
    model=MODEL,
    data=DataConfig(name="digits"),
    augment=AugmentConfig(flip=True, mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1),
    optimizer=OptimizerConfig(weight_decay=0.1, eps=1e-5, clip_norm=0.5),  # eps: some true gradients are zero
    schedule=ScheduleConfig(learning_rate=1e-2),
    batch_size=12,
    drop_path=0.3,
    ema_decay=0.9,
)


def small_step(config: TrainConfig = CONFIG, **optimizer: Any) -> Step:
    """The step of a config, some of its optimizer's settings changed; it has warmed up from the start."""
    config = replace(config, optimizer=replace(config.optimizer, **optimizer))
    model = nnx.eval_shape(lambda: ViT(config.model, rngs=nnx.Rngs(0), param_dtype=jnp.float64))
    merge, _ = split_model(model)
    return Step(config, merge, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1), 0, 100, param_dtype=jnp.float64)


def small_state(step: Step) -> State:
    """Its first state, with random parameters far from their initial values."""
    shapes = jax.eval_shape(make_model(step.config)[1], jax.random.key(0))
    random = np.random.default_rng(1)
    return step.init({path: jnp.asarray(0.3 * random.standard_normal(x.shape)) for path, x in shapes.items()})


def small_batch(step: Step, seed: int = 0) -> tuple[Batch, Draws]:
    """A batch of noise and its draws."""
    size, random = step.config.batch_size, np.random.default_rng(seed)
    images = random.integers(0, 256, (size, 8, 8, 3), dtype=np.uint8)
    labels = random.integers(0, 5, size, dtype=np.int32)
    return Batch(jnp.asarray(images), jnp.asarray(labels)), step.draw(step_key(seed, jnp.int32(3)), (size, 8, 8))


def after(step: Step, steps: int = 1) -> tuple[State, dict[str, Any]]:
    """The state after some steps, and the last one's metrics."""
    update, state, metrics = jax.jit(step.update), small_state(step), {}
    for seed in range(steps):
        state, metrics = update(state, *small_batch(step, seed))
    return state, metrics
