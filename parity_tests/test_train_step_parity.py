"""A whole training run is the same in both frameworks, to float64 rounding: parameters, EMA, losses, learning rates.

Everything that a step can do is on: shift, flip, MixUp, CutMix, smoothing, clipping, decay, stochastic
depth, warmup and cosine, EMA. And a mistake in any of them is seen.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests.compare import Arrays, elementwise, gap, leaf_gaps, worst
from parity_tests.pairs import hub_arrays, make_pair
from parity_tests.tolerances import EXACT, LOSS, NARROWED, PARAMETERS
from train.config import AugmentConfig, DataConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from train.devices.placement import make_placement
from train.draws import Draws, draw, step_key
from train.evaluation.split import make_evaluate
from train.input.data import Data
from train.input.order import batch_indices
from train.input.sources.arrays import Arrays as InMemory
from train.step import Batch, State, Step, split_model
from vit_convert.config import ViTConfig
from vit_torch import ViT, training

STEPS, EXAMPLES = 100, 20
MODEL = ViTConfig(
    image_size=(8, 12), patch_size=4, dim=16, depth=3, num_heads=2, mlp_dim=24, num_classes=5, num_registers=1,
    layer_scale=True,
)  # fmt: skip
CONFIG = TrainConfig(
    model=MODEL,
    data=DataConfig(name="digits"),
    augment=AugmentConfig(padding=2, flip=True, mixup_alpha=0.8, cutmix_alpha=1.0, mix_share=0.9, label_smoothing=0.1),
    optimizer=OptimizerConfig(weight_decay=0.1, beta1=0.85, beta2=0.98, eps=1e-5, clip_norm=0.3),
    schedule=ScheduleConfig(learning_rate=1e-2, final_fraction=0.05),
    batch_size=6,
    seed=3,
    drop_path=0.3,
    ema_decay=0.95,
)
MEAN, STD, WARMUP = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1), 20
HYPER = training.Hyper(
    mean=MEAN, std=STD, warmup_steps=WARMUP, total_steps=STEPS, learning_rate=1e-2, final_fraction=0.05,
    weight_decay=0.1, beta1=0.85, beta2=0.98, eps=1e-5, padding=2, label_smoothing=0.1, clip_norm=0.3, ema_decay=0.95,
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What a run came to, in hub names and torch layout."""

    params: Arrays
    ema: Arrays
    metrics: dict[str, np.ndarray]  # (STEPS,) each


@dataclass(frozen=True)
class Recorded:
    """The Flax run, and what it was given at each step."""

    run: Run
    initial: dict[str, torch.Tensor]
    batches: list[tuple[torch.Tensor, torch.Tensor]]
    draws: list[training.Draws]


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (EXAMPLES, 8, 12, 3), dtype=np.uint8), rng.integers(0, 5, EXAMPLES, dtype=np.int32)


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


def stacked(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def make_step() -> tuple[ViT, Step, dict[str, jax.Array]]:
    model, twin = make_pair(MODEL)
    merge, params = split_model(twin)
    return model, Step(CONFIG, merge, MEAN, STD, WARMUP, STEPS, param_dtype=jnp.float64), params


@pytest.fixture(scope="module")
def flax() -> Recorded:
    """A hundred steps of the trainer's own step, with its own order and draws."""
    model, step, params = make_step()
    initial = {name: p.clone() for name, p in model.state_dict().items()}
    images, labels = data()
    draw_step = jax.jit(lambda at: step.draw(step_key(CONFIG.seed, at), (6, 8, 12)))
    update = jax.jit(step.update, donate_argnums=0)
    state, rows, batches, draws = step.init(params), [], [], []
    for at in range(STEPS):
        chosen, drawn = batch_indices(CONFIG.seed, at, EXAMPLES, 6), draw_step(at)
        state, measured = update(state, Batch(jnp.array(images[chosen]), jnp.array(labels[chosen])), drawn)
        rows.append(measured)
        batches.append((torch.tensor(images[chosen]).permute(0, 3, 1, 2), torch.tensor(labels[chosen]).long()))
        draws.append(to_spec(drawn))
    assert state.ema is not None
    run = Run(hub_arrays(step.merge(state.params)), hub_arrays(step.merge(state.ema)), stacked(rows))
    return Recorded(run, initial, batches, draws)


def specified(given: Recorded, hyper: training.Hyper = HYPER) -> Run:
    """The same hundred steps by the specification."""
    model = ViT(MODEL).double()
    model.load_state_dict(given.initial)
    state = training.init_state(model)
    rows = [
        training.train_step(model, state, images, labels, draws, hyper)
        for (images, labels), draws in zip(given.batches, given.draws, strict=True)
    ]
    params = {name: p.detach().numpy() for name, p in model.named_parameters()}
    return Run(params, {name: e.numpy() for name, e in state.ema.items()}, stacked(rows))


def compare(ours: Run, theirs: Run) -> None:
    """The assertion of this file."""
    for what, tolerance in (("loss", LOSS), ("accuracy", LOSS), ("grad_norm", PARAMETERS), ("learning_rate", LOSS)):
        difference = gap(ours.metrics[what], theirs.metrics[what])
        assert difference < tolerance, f"{what} differs by {difference:.2e}"
    for what, a, b in (("parameter", ours.params, theirs.params), ("EMA of", ours.ema, theirs.ema)):
        found = leaf_gaps(a, b)
        assert max(found.values()) < PARAMETERS, f"{what} {worst(found)}"


def test_a_hundred_steps_are_the_specifications(flax: Recorded):
    compare(flax.run, specified(flax))


def test_those_steps_did_everything(flax: Recorded):
    """No part of the step passes for want of use."""
    cutmix = [draws.use_cutmix for draws in flax.draws]
    mixup = [not draws.use_cutmix and draws.lam < 1 for draws in flax.draws]
    assert min(sum(cutmix), sum(mixup), STEPS - sum(cutmix) - sum(mixup)) >= 3
    cut_off = [d for d in flax.draws if d.use_cutmix and abs(training.cutmix_lam(d.box, 8, 12) - d.lam) > 0.05]
    assert len(cut_off) >= 3
    norms, rates = flax.run.metrics["grad_norm"], flax.run.metrics["learning_rate"]
    assert (norms > HYPER.clip_norm).any()
    assert rates.argmax() == WARMUP
    assert 0 < rates[-1] < 0.1 * rates.max()
    factors = torch.stack([draws.drop_path for draws in flax.draws if draws.drop_path is not None])
    assert (factors[:, 0] == 1).all()
    assert set(np.unique(factors[:, 2])) == {0.0, 1 / 0.7}
    assert any(draws.flip.any() for draws in flax.draws)
    assert {int(n) for draws in flax.draws for n in draws.corner.flatten()} == {0, 1, 2, 3, 4}


def clip_without_epsilon(grads: dict[str, torch.Tensor], max_norm: float) -> dict[str, torch.Tensor]:
    factor = (max_norm / training.global_norm(grads)).clamp(max=1.0)
    return {name: g * factor for name, g in grads.items()}


def coupled_adamw(name: str, param: Any, grad: Any, state: Any, lr: float, hyper: Any) -> Any:
    decay = hyper.weight_decay if training.decays(name) else 0.0
    return original["adamw"](name, param, grad + decay * param, state, lr, replace(hyper, weight_decay=0.0))


original: dict[str, Callable[..., Any]] = {
    name: getattr(training, name)
    for name in ("adamw", "cutmix", "decays", "ema", "learning_rate", "mixup", "soft_cross_entropy", "flip", "shift")
}

# What someone would get wrong: the function of the step to replace, and by what.
MISTAKES: dict[str, tuple[str, Callable[..., Any]]] = {
    "clip epsilon dropped": ("clip", clip_without_epsilon),
    "decay on biases": ("decays", lambda name: original["decays"](name) or name.endswith(".bias")),
    "decay on tokens": ("decays", lambda name: original["decays"](name) or name == "cls_token"),
    "decay on positions": ("decays", lambda name: original["decays"](name) or name == "pos_embed"),
    "decay on layer scale": ("decays", lambda name: original["decays"](name) or name.endswith("gamma")),
    "decay coupled": ("adamw", coupled_adamw),
    "schedule off by one": ("learning_rate", lambda step, hyper: original["learning_rate"](step + 1, hyper)),
    "EMA decay and rest swapped": ("ema", lambda average, param, decay: original["ema"](average, param, 1 - decay)),
    "lam swapped": ("mixup", lambda x, partner, lam: original["mixup"](x, partner, 1 - lam)),
    "CutMix pastes outside": ("cutmix", lambda x, partner, box: original["cutmix"](x[partner], partner.argsort(), box)),
    "flip forgotten": ("flip", lambda images, flips: images),
    "shift of rows and columns swapped": ("shift", lambda x, at, padding: original["shift"](x, at.flip(1), padding)),
}

HYPERS = {
    "smoothing off": {"label_smoothing": 0.0},
    "beta2 wrong": {"beta2": 0.999},
    "no final fraction": {"final_fraction": 0.0},
    "total steps off by one": {"total_steps": STEPS - 1},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_seen(flax: Recorded, monkeypatch: pytest.MonkeyPatch, mistake: str):
    monkeypatch.setattr(training, *MISTAKES[mistake])
    with pytest.raises(AssertionError, match="differs by"):
        compare(flax.run, specified(flax))


@pytest.mark.parametrize("mistake", HYPERS)
def test_a_wrong_number_is_seen(flax: Recorded, mistake: str):
    with pytest.raises(AssertionError, match="differs by"):
        compare(flax.run, specified(flax, replace(HYPER, **HYPERS[mistake])))


def test_an_uncorrected_cutmix_area_is_seen(flax: Recorded, monkeypatch: pytest.MonkeyPatch):
    lams = iter([draws.lam for draws in flax.draws if draws.use_cutmix])
    monkeypatch.setattr(training, "cutmix_lam", lambda box, H, W: next(lams))
    with pytest.raises(AssertionError, match="differs by"):
        compare(flax.run, specified(flax))


def test_an_ema_of_the_parameters_before_the_update_is_seen(flax: Recorded, monkeypatch: pytest.MonkeyPatch):
    before: dict[int, torch.Tensor] = {}

    def adamw(name: str, param: torch.Tensor, *rest: Any) -> torch.Tensor:
        before[param.data_ptr()] = param.clone()
        return original["adamw"](name, param, *rest)

    def ema(average: torch.Tensor, param: torch.Tensor, decay: float) -> torch.Tensor:
        return original["ema"](average, before[param.data_ptr()], decay)

    monkeypatch.setattr(training, "adamw", adamw)
    monkeypatch.setattr(training, "ema", ema)
    with pytest.raises(AssertionError, match=r"EMA of .* differs by"):
        compare(flax.run, specified(flax))


def test_forgotten_stochastic_depth_is_seen(flax: Recorded):
    forgot = replace(flax, draws=[replace(draws, drop_path=None) for draws in flax.draws])
    with pytest.raises(AssertionError, match="differs by"):
        compare(flax.run, specified(forgot))


def test_train_step_is_its_draws_and_then_update():
    """The same program, operation by operation: nothing has to be compiled to see it."""
    _, step, params = make_step()
    images, labels = (jnp.array(x[:6]) for x in data())

    def in_two(state: State, batch: Batch) -> Any:
        return step.update(state, batch, step.draw(step_key(CONFIG.seed, state.step), (6, 8, 12)))

    given = step.init(params), Batch(images, labels)
    assert str(jax.make_jaxpr(step.train_step)(*given)) == str(jax.make_jaxpr(in_two)(*given))


def test_evaluation_counts_every_example_once():
    """With a model that says 0 to everything, so that what fills the last batch would count, too."""
    _, step, params = make_step()
    images, labels = data()
    params["head.kernel"] = jnp.zeros_like(params["head.kernel"])
    params["head.bias"] = jnp.array([1.0, 0, 0, 0, 0])
    source = InMemory(images, labels, tuple("abcde"), "drawn")
    for where in (True, False):
        of = replace(CONFIG, data=replace(CONFIG.data, resident=where, mean=MEAN, std=STD))
        found = make_evaluate(step, Data(of, source, source), make_placement(of, jax.devices()[:1]))(params)
        assert found.count == EXAMPLES
        assert found.correct == (labels == 0).sum() > 0
        assert found.correct_top5 == EXAMPLES
        assert gap(found.loss, np.log(np.e + 4) - np.mean(labels == 0)) < EXACT
        assert found.confusion is not None
        assert found.confusion[:, 0].tolist() == np.bincount(labels, minlength=5).tolist()
        assert found.class_accuracy.tolist() == [1, 0, 0, 0, 0]


@pytest.mark.slow
def test_draws_are_of_seed_and_step_alone_and_the_same_in_every_precision():
    more: Any = dict(rand_augment_layers=2, three_augment=True, color_jitter=0.3, erase_prob=0.5, erase_mode="const")
    everything = replace(CONFIG.augment, **more)

    @partial(jax.jit, static_argnums=(0, 2))
    def drawn(seed: int, step: int, dtype: Any) -> Draws:
        key = step_key(seed, jnp.int32(step))
        return draw(key, everything, (6, 8, 12), depth=3, drop_path=0.3, dropout=False, dtype=dtype)

    wide = drawn(3, 5, jnp.float64)
    with jax.enable_x64(False):
        narrow = drawn(3, 5, jnp.float32)
    leaves, _ = jax.tree.flatten_with_path(narrow)
    assert len(leaves) == 7 + 4 + 2 + 2 + 1  # all but dropout's key; RandAugment, 3-Augment, jitter, erasing
    for (path, a), b in zip(leaves, jax.tree.leaves(wide), strict=True):
        assert elementwise(a, b) <= NARROWED, jax.tree_util.keystr(path)
    assert (drawn(3, 6, jnp.float64).partner != wide.partner).any()
    three, four = (jax.random.key_data(step_key(seed, jnp.int32(5))) for seed in (3, 4))
    assert (three != four).any()


def test_an_epoch_sees_every_example_once_and_the_next_in_another_order():
    def epoch(number: int) -> np.ndarray:
        return np.concatenate([batch_indices(0, number * 4 + i, 20, 5) for i in range(4)])

    first, second = epoch(0), epoch(1)
    assert sorted(first) == sorted(second) == list(range(20))
    assert (first != second).any()
    np.testing.assert_array_equal(first, epoch(0))
