"""The specification of the train step says what the usual code says: torch.optim, torch.nn.utils, timm."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from parity_tests.compare import elementwise, gap, leaf_gaps, worst
from parity_tests.pictures import crops
from parity_tests.test_optimizers import Both
from parity_tests.tolerances import EXACT, FLOAT32, GRADIENT
from vit_convert.config import ViTConfig
from vit_convert.hub import hub_shapes
from vit_convert.roles import decays, role
from vit_torch import ViT, training

K = 7
HYPER = training.Hyper(
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.3, 0.1),
    learning_rate=3e-2,
    warmup_steps=4,
    total_steps=20,
    final_fraction=0.1,
    weight_decay=0.3,
    beta1=0.85,
    beta2=0.97,
    eps=1e-4,
)

# Every kind of tensor that a config can ask for, together.
EVERYTHING = (
    ViTConfig(
        image_size=8, patch_size=4, dim=16, depth=1, num_heads=2, mlp_dim=24, num_classes=K, dist_token=True,
        num_registers=2, pos_prefix="all", patch_norm=True, pre_norm=True, qk_norm=True, attn_norm=True, mlp_norm=True,
        layer_scale=True, qkv_bias="qv", pool="class_dist",
    ),
    ViTConfig(
        image_size=8, patch_size=4, dim=16, depth=1, num_heads=2, mlp_dim=24, num_classes=K, class_token=False,
        pool="map", final_norm="pooled", pre_logits=12,
    ),
)  # fmt: skip


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def small_model() -> ViT:
    config = ViTConfig(image_size=8, patch_size=4, dim=16, depth=1, num_heads=2, mlp_dim=24, num_classes=K)
    return ViT(config, generator=torch.Generator().manual_seed(0)).double()


def small_batch() -> tuple[Tensor, Tensor, training.Draws]:
    """Four images of noise, their labels, and draws that change nothing."""
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    draws = training.Draws(
        corner=torch.zeros(4, 2, dtype=torch.int64), flip=torch.zeros(4, dtype=torch.bool), use_cutmix=False, lam=1.0,
        box=(0, 0, 0, 0), partner=torch.tensor([1, 2, 3, 0]),
    )  # fmt: skip
    return images, torch.tensor([0, 3, 6, 3]), draws


# Two that decay, one of them zero, where a trust ratio has nothing to go by; and one that is spared.
NAMES = ("blocks.0.attn.qkv.weight", "head.weight", "blocks.0.norm1.weight")


def initial(name: str) -> Tensor:
    return torch.zeros(4, 5, dtype=torch.float64) if name == "head.weight" else normal(4, 5, seed=NAMES.index(name))


def follow(
    hyper: training.Hyper,
    make: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
    decay: float,
    scale: float = 1.0,
) -> None:
    """Twenty updates by the specification's rule are those of an optimizer of torch's or timm's.

    Args:
        scale: of the gradients.
    """
    ours = {name: initial(name) for name in NAMES}
    theirs = {name: p.clone().requires_grad_() for name, p in ours.items()}
    optimizer = make([{"params": [p], "weight_decay": decay * decays(name)} for name, p in theirs.items()])
    zeros = {name: torch.zeros_like(p) for name, p in ours.items()}
    state = training.State(0, dict(zeros), dict(zeros), {})
    for step in range(20):
        lr = training.learning_rate(step, hyper)
        for group in optimizer.param_groups:
            group["lr"] = lr
        for i, name in enumerate(NAMES):
            grad = scale * normal(4, 5, seed=100 * step + i)
            ours[name] = training.RULES[hyper.rule](name, ours[name], grad, state, lr, hyper)
            theirs[name].grad = grad
        optimizer.step()
        state.step += 1
    for name in NAMES:
        assert gap(ours[name], theirs[name].detach()) < EXACT, name


def test_adamw_is_torch_optims():
    betas = (HYPER.beta1, HYPER.beta2)
    follow(HYPER, lambda groups: torch.optim.AdamW(groups, betas=betas, eps=HYPER.eps), HYPER.weight_decay)


def test_decay_off_the_rate_is_times_the_rates_share_of_its_peak():
    """torch's AdamW with decay over the peak rate."""
    hyper, betas = replace(HYPER, decay_times_peak=False), (HYPER.beta1, HYPER.beta2)
    decay = HYPER.weight_decay / HYPER.learning_rate
    follow(hyper, lambda groups: torch.optim.AdamW(groups, betas=betas, eps=HYPER.eps), decay)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_lamb_is_timms(decay: float):
    """Without decay timm adapts nothing."""
    from timm.optim.lamb import Lamb

    hyper = replace(HYPER, rule="lamb", weight_decay=decay)
    options: dict[str, Any] = dict(betas=(HYPER.beta1, HYPER.beta2), eps=HYPER.eps, max_grad_norm=None)
    follow(hyper, lambda groups: Lamb(groups, **options), decay)


@pytest.mark.parametrize("scale", [1.0, 1e-8])
def test_muon_is_torch_optims_of_matrices_in_blocks_and_adamw_elsewhere(monkeypatch: pytest.MonkeyPatch, scale: float):
    """torch's orthogonal matrices are in bfloat16; that one rounding is left out here, and all is float64. Gradients
    that vanish make smaller steps."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x)

    def both(groups: list[dict[str, Any]]) -> Any:
        matrix, *others = groups
        muon = torch.optim.Muon([matrix], lr=1.0, momentum=HYPER.beta1, adjust_lr_fn="match_rms_adamw")
        return Both(muon, torch.optim.AdamW(others, betas=(HYPER.beta1, HYPER.beta2), eps=HYPER.eps))

    follow(replace(HYPER, rule="muon"), both, HYPER.weight_decay, scale)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_sgd_is_torch_optims(momentum: float, nesterov: bool):
    hyper = replace(HYPER, rule="sgd", beta1=momentum, nesterov=nesterov)
    options: dict[str, Any] = dict(momentum=momentum, nesterov=nesterov and momentum > 0)
    follow(hyper, lambda groups: torch.optim.SGD(groups, **options), HYPER.weight_decay)


class DecoupledSGD(torch.optim.SGD):
    """torch's, with big_vision's decay: behind the momentum, times the rate's share of its peak."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        strengths = [group["weight_decay"] for group in self.param_groups]
        before = [[p.clone() for p in group["params"]] for group in self.param_groups]
        for group in self.param_groups:
            group["weight_decay"] = 0.0
        super().step()
        for group, strength, old in zip(self.param_groups, strengths, before, strict=True):
            group["weight_decay"] = strength
            for p, was in zip(group["params"], old, strict=True):
                p -= group["lr"] / HYPER.learning_rate * strength * was


def test_sgds_decay_off_the_rate_stands_behind_the_momentum():
    hyper = replace(HYPER, rule="sgd", decay_times_peak=False)
    follow(hyper, lambda groups: DecoupledSGD(groups, momentum=HYPER.beta1), HYPER.weight_decay)


@pytest.mark.parametrize("max_norm", [0.1, 1e4])
def test_clipping_is_torch_utils(max_norm: float):
    grads = {"a": normal(4, 5, seed=1), "b": normal(3, seed=2)}
    params = [torch.zeros_like(g).requires_grad_() for g in grads.values()]
    for param, grad in zip(params, grads.values(), strict=True):
        param.grad = grad.clone()
    norm = torch.nn.utils.clip_grad_norm_(params, max_norm)
    assert gap(training.global_norm(grads), norm) < EXACT
    for param, clipped in zip(params, training.clip(grads, max_norm).values(), strict=True):
        assert param.grad is not None
        assert gap(clipped, param.grad) < EXACT


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), use_cutmix=st.booleans(), smoothing=st.sampled_from([0.0, 0.1]))
def test_mixing_and_soft_targets_are_timms(seed: int, use_cutmix: bool, smoothing: float):
    """With timm's own draws: its partner is the batch reversed, its box comes from NumPy's global generator."""
    from timm.data.mixup import Mixup, cutmix_bbox_and_lam

    labels, images = torch.arange(6) % K, torch.tensor(crops(6, 9, 13, seed) / 255).permute(0, 3, 1, 2)
    alphas = (0.0, 1.0) if use_cutmix else (0.8, 0.0)
    mix = Mixup(*alphas, label_smoothing=smoothing, num_classes=K)
    state = np.random.RandomState(seed).get_state()
    np.random.set_state(state)
    theirs, their_targets = mix(images.clone(), labels)
    np.random.set_state(state)
    lam, _ = mix._params_per_batch()
    partner, targets = torch.arange(5, -1, -1), training.smooth_one_hot(labels, K, smoothing, torch.float64)
    if use_cutmix:
        (top, bottom, left, right), _ = cutmix_bbox_and_lam(images.shape, lam)
        box = (int(top), int(bottom), int(left), int(right))
        ours, lam = training.cutmix(images, partner, box), training.cutmix_lam(box, 9, 13)
    else:
        ours = training.mixup(images, partner, lam)
    assert gap(ours, theirs) < EXACT
    # timm builds its targets in float32
    assert gap(training.mixup(targets, partner, lam), their_targets) < FLOAT32


def test_the_loss_is_timms_and_label_smoothing_torchs():
    from timm.loss.cross_entropy import SoftTargetCrossEntropy

    logits, labels = normal(6, K), torch.arange(6) % K
    targets = torch.softmax(normal(6, K, seed=1), -1)
    assert gap(training.soft_cross_entropy(logits, targets), SoftTargetCrossEntropy()(logits, targets)) < EXACT
    smooth = training.smooth_one_hot(labels, K, 0.1, torch.float64)
    theirs = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    assert gap(training.soft_cross_entropy(logits, smooth), theirs) < EXACT


def test_the_sigmoid_loss_is_torchs_and_timms():
    from timm.loss.binary_cross_entropy import BinaryCrossEntropy

    logits, targets = 5 * normal(6, K), torch.softmax(normal(6, K, seed=1), -1)
    ours = training.binary_cross_entropy(logits, targets)
    assert gap(ours, torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)) < EXACT
    assert gap(ours, BinaryCrossEntropy(smoothing=0.0)(logits, targets)) < EXACT


@pytest.mark.parametrize("config", EVERYTHING)
def test_layer_rates_are_the_trainers(config: ViTConfig):
    """And those are timm's: test_layer_decay.py."""
    from train.optimizer.layers import layer_scale

    config = config.replace(depth=3)
    for name in hub_shapes(config):
        assert training.layer_rate(name, 3, 0.75) == pytest.approx(layer_scale(name, 3, 0.75), rel=EXACT), name
        assert training.layer_rate(name, 3, None) == 1


@pytest.mark.parametrize(
    "patterns", [(), ("*", "!head.*"), ("blocks.*", "!blocks.0.mlp.*", "blocks.0.mlp.fc1.bias"), ("!*.bias", "pos_*")]
)
def test_patterns_freeze_what_the_trainers_freeze(patterns: tuple[str, ...]):
    from train.optimizer.frozen import frozen_names

    names = list(hub_shapes(EVERYTHING[0]))
    assert training.frozen_names(patterns, names) == frozen_names(patterns, names)


def test_the_frozen_have_no_moments_and_stay():
    model = small_model()
    hyper = replace(HYPER, warmup_steps=0, frozen=("*", "!head.*"), ema_decay=0.5)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    state = training.init_state(model, hyper)
    training.train_step(model, state, *small_batch(), hyper)
    assert set(state.mu) == set(state.nu) == {"head.weight", "head.bias"}
    moved = {name for name, p in model.state_dict().items() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if not torch.equal(state.ema[name], before[name])} == set(state.mu)


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_give_the_whole_batchs_gradients(parts: int):
    """Of images, targets and masks that are all different."""
    model, x, targets = small_model(), normal(8, 3, 8, 8), torch.softmax(normal(8, K, seed=1), -1)
    masks = torch.arange(16, dtype=torch.float64).reshape(1, 2, 8) / 8
    draws = replace(small_batch()[2], drop_path=masks)
    whole, split = (training.gradients(model, x, targets, draws, replace(HYPER, accumulate=n)) for n in (1, parts))
    assert split[0] == pytest.approx(whole[0], rel=EXACT)
    assert split[1] == whole[1]
    found = leaf_gaps(*({name: g.numpy() for name, g in of[2].items()} for of in (split, whole)))
    assert max(found.values()) < GRADIENT, worst(found)


def test_a_part_is_every_nth_row():
    assert training.part(torch.arange(6), 1, 3).tolist() == [1, 4]
    assert training.part(torch.arange(12).reshape(1, 2, 6), 1, 2, axis=2).tolist() == [[[1, 3, 5], [7, 9, 11]]]


def test_the_schedule_is_optaxs():
    """To float32, which is what optax computes it in."""
    import optax

    theirs = optax.warmup_cosine_decay_schedule(0.0, 3e-2, warmup_steps=4, decay_steps=20, end_value=3e-3)
    for step in range(23):
        assert elementwise(training.learning_rate(step, HYPER), theirs(step)) < FLOAT32


def test_the_schedule_peaks_after_warmup_and_ends_at_its_fraction():
    assert training.learning_rate(0, HYPER) == 0
    assert training.learning_rate(4, HYPER) == HYPER.learning_rate
    assert training.learning_rate(20, HYPER) == pytest.approx(HYPER.learning_rate * HYPER.final_fraction, rel=EXACT)
    assert training.learning_rate(0, replace(HYPER, warmup_steps=0)) == HYPER.learning_rate


def test_shift_is_a_crop_of_the_padded_image_and_flip_mirrors():
    image = torch.arange(6, dtype=torch.uint8).reshape(1, 1, 2, 3)
    corner = torch.tensor([[0, 0], [1, 1], [2, 1]])
    shifted = training.shift(image.expand(3, 1, 2, 3), corner, padding=1)
    assert shifted[:, 0].tolist() == [[[0, 0, 0], [0, 0, 1]], [[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 0, 0]]]
    flipped = training.flip(image.expand(2, 1, 2, 3), torch.tensor([True, False]))
    assert flipped[:, 0].tolist() == [[[2, 1, 0], [5, 4, 3]], [[0, 1, 2], [3, 4, 5]]]


@pytest.mark.parametrize("config", EVERYTHING)
def test_only_kernels_decay(config: ViTConfig):
    """The role of every tensor that the hub knows, beside the shape that would have guessed it here."""
    for name, shape in hub_shapes(config).items():
        is_kernel = len(shape) in (2, 4)
        assert decays(name) == is_kernel, f"{name} has the role {role(name)}"


@pytest.mark.parametrize(
    "name", ["blocks.0.attn.relative_position_bias_table", "head", "norm1.gamma", "decoder.weight"]
)
def test_a_name_of_no_known_role_is_refused(name: str):
    with pytest.raises(ValueError, match="no role is known"):
        role(name)


@pytest.mark.slow
def test_the_torch_loop_learns(capsys: pytest.CaptureFixture[str]):
    training.main()
    assert float(capsys.readouterr().out.split("held out: ")[1].split("%")[0]) > 95


def test_a_step_without_extras_is_plain_adamw_on_cross_entropy():
    """No mixing, no smoothing, no clipping, no EMA: what any torch loop does."""
    model, twin = small_model(), small_model()
    images, labels, draws = small_batch()
    hyper = replace(HYPER, warmup_steps=0)
    metrics = training.train_step(model, training.init_state(model), images, labels, draws, hyper)
    kernels = [p for name, p in twin.named_parameters() if decays(name)]
    rest = [p for name, p in twin.named_parameters() if not decays(name)]
    optimizer = torch.optim.AdamW(
        [{"params": kernels, "weight_decay": hyper.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=hyper.learning_rate, betas=(hyper.beta1, hyper.beta2), eps=hyper.eps,
    )  # fmt: skip
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (hyper.mean, hyper.std))
    loss = torch.nn.functional.cross_entropy(twin((images.double() / 255 - mean) / std), labels)
    loss.backward()
    optimizer.step()
    assert gap(metrics["loss"], loss.item()) < EXACT
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert gap(ours.detach(), theirs.detach()) < EXACT, name
