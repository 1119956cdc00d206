"""A mistake planted in any piece of the train step is seen after a few steps beside the trainer."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from parity_tests.selection import quick
from parity_tests.trajectories import CASES, PARTS, SHORT, STEPS, Recorded, compare, recorded, specified
from vit_convert.roles import decays, hidden
from vit_torch import training
from vit_torch.training import Hyper, State


def check(given: Recorded, hyper: Hyper | None = None) -> None:
    """Whether the specification, as it stands now, still equals the trainer."""
    compare(given.after[SHORT], specified(given, SHORT, hyper))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow  # `make test` has these in test_train_step_parity.py
def test_nothing_planted_is_green(case: str):
    check(recorded(case))


def clip_without_epsilon(grads: dict[str, Tensor], max_norm: float) -> dict[str, Tensor]:
    factor = (max_norm / training.global_norm(grads)).clamp(max=1.0)
    return {name: g * factor for name, g in grads.items()}


def coupled_adamw(name: str, param: Tensor, grad: Tensor, state: State, lr: float, hyper: Hyper) -> Tensor:
    decay = hyper.weight_decay if decays(name) else 0.0
    return training.adamw(name, param, grad + decay * param, state, lr, replace(hyper, weight_decay=0.0))


def adapted_everywhere(name: str, param: Tensor, grad: Tensor, state: State, lr: float, hyper: Hyper) -> Tensor:
    """optax.lamb: the trust ratio on what decay spares, too."""
    direction = training.adam(name, grad, state, hyper) + training.decay_strength(name, hyper) * param
    return param - lr * training.trust_ratio(param, direction) * direction


def decay_beside_the_ratio(name: str, param: Tensor, grad: Tensor, state: State, lr: float, hyper: Hyper) -> Tensor:
    direction, decay = training.adam(name, grad, state, hyper), training.decay_strength(name, hyper)
    ratio = training.trust_ratio(param, direction) if decay else 1.0
    return param - lr * (ratio * direction + decay * param)


def decay_behind_the_momentum(name: str, param: Tensor, grad: Tensor, state: State, lr: float, hyper: Hyper) -> Tensor:
    return param - lr * (training.momentum(name, grad, state, hyper) + training.decay_strength(name, hyper) * param)


def decay_in_the_momentum(name: str, param: Tensor, grad: Tensor, state: State, lr: float, hyper: Hyper) -> Tensor:
    decay = training.decay_strength(name, hyper) * param
    return param - lr * training.momentum(name, grad + decay, state, hyper)


def muon_without_nesterov(name: str, param: Tensor, grad: Tensor, state: State, lr: float, hyper: Hyper) -> Tensor:
    if not hidden(name):
        return training.adamw(name, param, grad, state, lr, hyper)
    velocity = state.mu[name] = hyper.beta1 * state.mu[name] + grad
    direction = 0.2 * max(grad.shape) ** 0.5 * training.orthogonal(velocity, 1e-6)
    return param - lr * (direction + training.decay_strength(name, hyper) * param)


def scaled_by_the_rows(matrix: Tensor, least: float) -> Tensor:
    return training.orthogonal(matrix, least) * (matrix.shape[0] / max(matrix.shape)) ** 0.5


def dampened(name: str, grad: Tensor, state: State, hyper: Hyper) -> Tensor:
    return training.momentum(name, (1 - hyper.beta1) * grad, state, hyper)


def nesterov_of_the_old_velocity(name: str, grad: Tensor, state: State, hyper: Hyper) -> Tensor:
    old = state.mu[name]
    training.momentum(name, grad, state, hyper)
    return grad + hyper.beta1 * old


def own_masks_for_each_part(x: Tensor, number: int, parts: int, axis: int = 0) -> Tensor:
    """Images by strides, and the masks of their branches by halves."""
    return x.chunk(parts, axis)[number] if axis else training.part(x, number, parts)


def summed(*given: Any) -> tuple[float, float, dict[str, Tensor]]:
    loss, accuracy, grads = training.gradients(*given)
    return loss, accuracy, {name: 2 * g for name, g in grads.items()}


def first_pattern_decides(patterns: tuple[str, ...], names: dict[str, Tensor]) -> set[str]:
    return training.frozen_names(patterns[::-1], names)


def final_norm_with_the_last_block(name: str, depth: int, decay: float) -> float:
    """timm's ViT.group_matcher."""
    return decay if name.startswith("norm.") else training.layer_rate(name, depth, decay)


def patches_with_the_first_block(name: str, depth: int, decay: float) -> float:
    return max(training.layer_rate(name, depth, decay), decay**depth)


def summed_over_classes(logits: Tensor, targets: Tensor) -> Tensor:
    return training.binary_cross_entropy(logits, targets) * logits.shape[-1]


# What someone would get wrong: the case that shows it, what of vit_torch.training to replace, and by what.
MISTAKES: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "clip epsilon dropped": ("adamw", "step.clip", clip_without_epsilon),
    "decay on biases": ("adamw", "rules.decays", lambda name: decays(name) or name.endswith(".bias")),
    "decay on tokens": ("adamw", "rules.decays", lambda name: decays(name) or name == "cls_token"),
    "decay on positions": ("adamw", "rules.decays", lambda name: decays(name) or name == "pos_embed"),
    "decay on layer scale": ("adamw", "rules.decays", lambda name: decays(name) or name.endswith("gamma")),
    "decay coupled": ("adamw", "RULES.adamw", coupled_adamw),
    "schedule off by one": ("adamw", "step.learning_rate", lambda at, hyper: training.learning_rate(at + 1, hyper)),
    "EMA decay and rest swapped": ("adamw", "step.ema", lambda old, new, decay: training.ema(old, new, 1 - decay)),
    "lam swapped": ("adamw", "augmentation.mixup", lambda x, partner, lam: training.mixup(x, partner, 1 - lam)),
    "CutMix pastes outside": (
        "adamw",
        "augmentation.cutmix",
        lambda x, partner, box: training.cutmix(x[partner], partner.argsort(), box),
    ),
    "flip forgotten": ("adamw", "augmentation.flip", lambda images, flips: images),
    "shift of rows and columns swapped": (
        "adamw",
        "augmentation.shift",
        lambda x, corner, padding: training.shift(x, corner.flip(1), padding),
    ),
    "parts summed": ("adamw", "step.gradients", summed),
    "masks of other rows": ("adamw", "accumulate.part", own_masks_for_each_part),
    "one part alone": ("adamw", "accumulate.part", lambda x, number, parts, axis=0: training.part(x, 0, parts, axis)),
    "trust ratio everywhere": ("lamb", "RULES.lamb", adapted_everywhere),
    "trust ratio nowhere": ("lamb", "RULES.lamb", training.adamw),
    "decay beside the trust ratio": ("lamb", "RULES.lamb", decay_beside_the_ratio),
    "trust ratio of at most 1": ("lamb", "rules.trust_ratio", lambda *of: training.trust_ratio(*of).clamp(max=1)),
    "trust ratio upside down": ("lamb", "rules.trust_ratio", lambda *of: 1 / training.trust_ratio(*of)),
    "velocity dampened": ("sgd", "rules.momentum", dampened),
    "no momentum": ("sgd", "rules.momentum", lambda name, grad, state, hyper: grad),
    "sgd's decay decoupled": ("sgd", "RULES.sgd", decay_behind_the_momentum),
    "muon's momentum without Nesterov": ("muon", "RULES.muon", muon_without_nesterov),
    "the head made orthogonal": ("muon", "rules.hidden", lambda name: hidden(name) or name == "head.weight"),
    "a step scaled by the rows": ("muon", "rules.orthogonal", scaled_by_the_rows),
    "sum over classes": (PARTS, "LOSSES.sigmoid", summed_over_classes),
    "softmax for sigmoid": (PARTS, "LOSSES.sigmoid", training.soft_cross_entropy),
    "layers counted from 1": (PARTS, "step.layer_rate", lambda *of: of[2] * training.layer_rate(*of)),
    "final norm with the last block": (PARTS, "step.layer_rate", final_norm_with_the_last_block),
    "patches with the first block": (PARTS, "step.layer_rate", patches_with_the_first_block),
    "the first pattern decides": (PARTS, "state.frozen_names", first_pattern_decides),
    "nothing frozen": (PARTS, "state.frozen_names", lambda patterns, names: set()),
    "nesterov of the old velocity": (PARTS, "rules.momentum", nesterov_of_the_old_velocity),
    "decay off the rate in the momentum": (PARTS, "RULES.sgd", decay_in_the_momentum),
}


def plant(patch: pytest.MonkeyPatch, where: str, wrong: Callable[..., Any]) -> None:
    """Replaces `module.name` of vit_torch.training, or an entry of one of its tables."""
    tables: dict[str, dict[str, Any]] = {"RULES": training.RULES, "LOSSES": training.LOSSES}
    table, _, name = where.partition(".")
    if table in tables:
        patch.setitem(tables[table], name, wrong)
    else:
        patch.setattr(f"vit_torch.training.{where}", wrong)


@pytest.mark.parametrize("mistake", quick(MISTAKES.keys(), ["clip epsilon dropped", "decay coupled", "parts summed"]))
def test_a_planted_mistake_is_seen(monkeypatch: pytest.MonkeyPatch, mistake: str):
    case, where, wrong = MISTAKES[mistake]
    plant(monkeypatch, where, wrong)
    with pytest.raises(AssertionError, match="differs by"):
        check(recorded(case))


NUMBERS = {
    "smoothing off": ("adamw", {"label_smoothing": 0.0}),
    "beta2 wrong": ("adamw", {"beta2": 0.999}),
    "eps wrong": ("lamb", {"eps": 1e-6}),
    "no final fraction": ("adamw", {"final_fraction": 0.0}),
    "total steps off by one": ("adamw", {"total_steps": STEPS - 1}),
    "nesterov off": (PARTS, {"nesterov": False}),
    "decay times the peak": (PARTS, {"decay_times_peak": True}),
    "no layer decay": (PARTS, {"layer_decay": None}),
}


@pytest.mark.parametrize("mistake", NUMBERS)
@pytest.mark.slow
def test_a_wrong_number_is_seen(mistake: str):
    case, numbers = NUMBERS[mistake]
    given = recorded(case)
    with pytest.raises(AssertionError, match="differs by"):
        check(given, replace(given.hyper, **numbers))


def test_an_uncorrected_cutmix_area_is_seen(monkeypatch: pytest.MonkeyPatch):
    given = recorded("adamw")
    lams = iter([draws.lam for draws in given.draws if draws.use_cutmix])
    plant(monkeypatch, "augmentation.cutmix_lam", lambda box, H, W: next(lams))
    with pytest.raises(AssertionError, match="differs by"):
        check(given)


def test_an_ema_of_the_parameters_before_the_update_is_seen(monkeypatch: pytest.MonkeyPatch):
    before: dict[int, torch.Tensor] = {}

    def adamw(name: str, param: torch.Tensor, *rest: Any) -> torch.Tensor:
        before[param.data_ptr()] = param.clone()
        return training.adamw(name, param, *rest)

    def ema(average: torch.Tensor, param: torch.Tensor, decay: float) -> torch.Tensor:
        return training.ema(average, before[param.data_ptr()], decay)

    plant(monkeypatch, "RULES.adamw", adamw)
    plant(monkeypatch, "step.ema", ema)
    with pytest.raises(AssertionError, match=r"EMA of .* differs by"):
        check(recorded("adamw"))


def test_forgotten_stochastic_depth_is_seen():
    given = recorded("adamw")
    with pytest.raises(AssertionError, match="differs by"):
        check(replace(given, draws=[replace(draws, drop_path=None) for draws in given.draws]))


@pytest.mark.slow
def test_a_norm_that_counts_what_is_frozen_is_seen(monkeypatch: pytest.MonkeyPatch):
    """Gradients of all parameters are clipped together, and those of the frozen then left out."""
    given = recorded(PARTS)
    whole = replace(given.hyper, frozen=())

    def clip(grads: dict[str, Tensor], max_norm: float) -> dict[str, Tensor]:
        clipped = training.clip(grads, max_norm)
        frozen = training.frozen_names(given.hyper.frozen, clipped)
        return {name: g for name, g in clipped.items() if name not in frozen}

    plant(monkeypatch, "step.clip", clip)
    with pytest.raises(AssertionError, match="differs by"):
        check(given, whole)
