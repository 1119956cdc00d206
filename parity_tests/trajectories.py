"""The same training steps by the trainer and by the specification: same weights, batches and draws, in float64.

Everything that a step can do is on: shift, flip, MixUp, CutMix, smoothing, clipping, decay, stochastic depth, warmup,
cosine, accumulation, EMA. The specification's numbers are read from the trainer's config as its own loop reads them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity_tests.compare import Arrays, gap, leaf_gaps
from parity_tests.pairs import hub_arrays, make_pair
from parity_tests.tolerances import LOSS, PARAMETERS
from train.config import AugmentConfig, DataConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from train.draws import Draws, step_key
from train.input.order import batch_indices
from train.step import Batch, State, Step, split_model
from vit_convert.config import ViTConfig
from vit_torch import ViT, training
from vit_torch.training.loop.recipe import make_hyper
from vit_torch.training.loop.settings import checked, flat

STEPS, SHORT = 100, 15  # compared after so many steps
EXAMPLES = 20
MODEL = ViTConfig(
    image_size=(8, 12), patch_size=4, dim=16, depth=2, num_heads=2, mlp_dim=24, num_classes=5, num_registers=1,
    layer_scale=True,
)  # fmt: skip
ADAMW = OptimizerConfig(weight_decay=0.1, beta1=0.85, beta2=0.98, eps=1e-5, clip_norm=0.3, accumulate=2)
CONFIG = TrainConfig(
    model=MODEL,
    data=DataConfig(name="digits"),
    augment=AugmentConfig(padding=2, flip=True, mixup_alpha=0.8, cutmix_alpha=1.0, mix_share=0.9, label_smoothing=0.1),
    optimizer=ADAMW,
    schedule=ScheduleConfig(learning_rate=1e-2, final_fraction=0.05),
    batch_size=6,
    seed=3,
    drop_path=0.3,
    ema_decay=0.95,
)
MEAN, STD, WARMUP = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1), 10
IMAGES = (CONFIG.batch_size, *MODEL.image_hw)


def with_rule(**changes: Any) -> TrainConfig:
    return replace(CONFIG, optimizer=replace(ADAMW, **changes))


HARD = "adamw, sigmoid loss of binary targets, one stochastic depth for all blocks"
FROZEN = ("patch_embed.*", "blocks.0.*", "!*.bias", "cls_token")
CASES = {
    "adamw": CONFIG,
    "lamb": with_rule(name="lamb"),
    "sgd": with_rule(name="sgd"),
    "muon": with_rule(name="muon"),
    HARD: replace(
        with_rule(clip_norm=1.0),  # above some steps' norms and below others'
        augment=replace(CONFIG.augment, label_smoothing=0.0),
        loss="sigmoid",
        binary_targets=True,
        drop_path_schedule="constant",
    ),
    "sgd, nesterov, decay off the rate, sigmoid loss, layer decay, frozen parts": replace(
        with_rule(name="sgd", nesterov=True, decay_times_peak=False, layer_decay=0.7, frozen=FROZEN), loss="sigmoid"
    ),
}
RULES = ("adamw", "lamb", "sgd", "muon")
PARTS = next(name for name in CASES if name not in (*RULES, HARD))


@dataclass(frozen=True)
class Run:
    """What a run came to, in hub names and torch layout."""

    params: Arrays
    ema: Arrays
    metrics: dict[str, np.ndarray]  # a number a step, each


@dataclass(frozen=True)
class Recorded:
    """The trainer's run, and what it was given at each step."""

    config: TrainConfig
    after: dict[int, Run]  # SHORT and STEPS steps
    initial: dict[str, torch.Tensor]
    batches: list[tuple[torch.Tensor, torch.Tensor]]
    draws: list[training.Draws]

    @property
    def hyper(self) -> training.Hyper:
        """The numbers of the run for the specification."""
        return hyper_of(self.config)


def hyper_of(config: TrainConfig) -> training.Hyper:
    """The numbers of a run for the specification."""
    settings = checked(flat(config.to_dict()), "the config")
    return make_hyper(settings, mean=MEAN, std=STD, warmup_steps=WARMUP, total_steps=STEPS)


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (EXAMPLES, 8, 12, 3), dtype=np.uint8), rng.integers(0, 5, EXAMPLES, dtype=np.int32)


def make_step(config: TrainConfig = CONFIG) -> tuple[ViT, Step, dict[str, jax.Array]]:
    """The specification's model, the trainer's step, and its parameters."""
    model, twin = make_pair(MODEL)
    merge, params = split_model(twin)
    return model, Step(config, merge, MEAN, STD, WARMUP, STEPS, param_dtype=jnp.float64), params


def drawn(config: TrainConfig) -> list[Draws]:
    """The trainer's draws of each step. Of what differs between the cases, stochastic depth's schedule alone decides
    them."""
    return _drawn(config.drop_path_schedule)


@cache
def _drawn(schedule: Literal["linear", "constant"]) -> list[Draws]:
    _, step, _ = make_step(replace(CONFIG, drop_path_schedule=schedule))
    draw_step = jax.jit(lambda at: step.draw(step_key(CONFIG.seed, at), IMAGES))
    return [draw_step(at) for at in range(STEPS)]


def batch_at(config: TrainConfig, at: int) -> tuple[np.ndarray, np.ndarray]:
    """The images (B, H, W, C) and labels that this step sees."""
    images, labels = data()
    chosen = batch_indices(config.seed, at, EXAMPLES, config.batch_size)
    return images[chosen], labels[chosen]


def batch_to_spec(images: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The same batch for the specification."""
    return torch.tensor(images).permute(0, 3, 1, 2), torch.tensor(labels).long()


def to_spec(draws: Draws) -> training.Draws:
    """The same draws for the specification."""
    top, bottom, left, right = (int(edge) for edge in draws.box)
    assert draws.drop_path is not None
    return training.Draws(
        corner=torch.tensor(np.asarray(draws.corner)),
        flip=torch.tensor(np.asarray(draws.flip)),
        use_cutmix=bool(draws.use_cutmix),
        lam=float(draws.lam),
        box=(top, bottom, left, right),
        partner=torch.tensor(np.asarray(draws.partner)),
        drop_path=torch.tensor(np.asarray(draws.drop_path)),
    )


@cache
def recorded(case: str) -> Recorded:
    """A hundred steps of the trainer's own step, with its own order and draws."""
    config = CASES[case]
    model, step, params = make_step(config)
    initial = {name: p.clone() for name, p in model.state_dict().items()}
    update = jax.jit(step.update, donate_argnums=0)
    state, rows, batches, after = step.init(params), [], [], {}
    for at in range(STEPS):
        images, labels = batch_at(config, at)
        state, measured = update(state, Batch(jnp.array(images), jnp.array(labels)), drawn(config)[at])
        rows.append(measured)
        batches.append(batch_to_spec(images, labels))
        if at + 1 in (SHORT, STEPS):
            after[at + 1] = so_far(step, state, rows)
    return Recorded(config, after, initial, batches, [to_spec(draws) for draws in drawn(config)])


def so_far(step: Step, state: State, rows: list[dict[str, Any]]) -> Run:
    assert state.ema is not None
    return Run(hub_arrays(step.merge(state.params)), hub_arrays(step.merge(state.ema)), stacked(rows))


def stacked(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def specified(given: Recorded, steps: int = STEPS, hyper: training.Hyper | None = None) -> Run:
    """The same steps by the specification."""
    hyper = hyper or given.hyper
    model = ViT(MODEL).double()
    model.load_state_dict(given.initial)
    state = training.init_state(model, hyper)
    rows = [
        training.train_step(model, state, images, labels, draws, hyper)
        for (images, labels), draws in zip(given.batches[:steps], given.draws[:steps], strict=True)
    ]
    params = {name: p.detach().numpy() for name, p in model.named_parameters()}
    return Run(params, {name: e.numpy() for name, e in state.ema.items()}, stacked(rows))


def differences(ours: Run, theirs: Run) -> Iterator[tuple[str, float, float]]:
    """(what, how far apart, tolerance) of all that two runs came to."""
    for what, tolerance in (("loss", LOSS), ("accuracy", LOSS), ("grad_norm", PARAMETERS), ("learning_rate", LOSS)):
        yield what, gap(ours.metrics[what], theirs.metrics[what]), tolerance
    for what, a, b in (("parameter", ours.params, theirs.params), ("EMA of", ours.ema, theirs.ema)):
        for name, found in leaf_gaps(a, b).items():
            yield f"{what} {name}", found, PARAMETERS


def compare(ours: Run, theirs: Run) -> None:
    """The assertion about two runs."""
    for what, found, tolerance in differences(ours, theirs):
        assert found < tolerance, f"{what} differs by {found:.2e}"
