"""Each update rule is the one that it is named after: torch's and timm's own, on the same gradients, in float64."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from timm.loss.binary_cross_entropy import BinaryCrossEntropy
from timm.optim.adafactor_bv import AdafactorBigVision
from timm.optim.lamb import Lamb

from parity_tests.compare import elementwise, leaf_gaps, worst
from parity_tests.small_step import CONFIG, after, small_step
from parity_tests.test_saved_steps import abstract, assert_same_bits, saver_in
from parity_tests.tolerances import EXACT, PARAMETERS
from train import optimizer
from train.config import ConfigError, OptimizerConfig, ScheduleConfig
from train.losses import binary_cross_entropy
from train.optimizer.adafactor import adafactor
from train.optimizer.rate import scale_by_given_rate

STEPS, PEAK = 12, 0.02
SHAPES = {
    "patch_embed.proj.kernel": (4, 4, 3, 48),
    "blocks.0.attn.qkv.kernel": (48, 144),
    "blocks.0.attn.qkv.bias": (144,),
    "blocks.0.norm1.scale": (48,),
    "pos_embed": (1, 17, 48),
}
DECAYED = {"patch_embed.proj.kernel", "blocks.0.attn.qkv.kernel"}
Params = dict[str, np.ndarray]


def drawn(seed: int) -> Params:
    random = np.random.default_rng(seed)
    return {path: random.standard_normal(shape) for path, shape in SHAPES.items()}


def rate(step: int) -> float:
    return PEAK * (1 - 0.05 * step)


def ours(given: OptimizerConfig) -> Params:
    """The parameters after STEPS updates by the trainer's rule."""
    return run(optimizer.make(replaced(given)))


def replaced(given: OptimizerConfig) -> Any:
    return replace(CONFIG, optimizer=given, schedule=ScheduleConfig(learning_rate=PEAK))


def run(rule: optax.GradientTransformationExtraArgs) -> Params:
    params = {path: jnp.asarray(x) for path, x in drawn(0).items()}
    state, update = rule.init(params), jax.jit(rule.update)
    for step in range(STEPS):
        grads = {path: jnp.asarray(x) for path, x in drawn(step + 1).items()}
        updates, state = update(grads, state, params, learning_rate=jnp.asarray(rate(step)))
        params = optax.apply_updates(params, updates)
    return {path: np.asarray(x) for path, x in params.items()}  # type: ignore[union-attr]


def theirs(make: Callable[[list[dict[str, Any]]], torch.optim.Optimizer], weight_decay: float) -> Params:
    """The same updates by an optimizer of torch's or timm's, decayed and spared parameters in groups."""
    params = {path: torch.nn.Parameter(torch.tensor(x)) for path, x in drawn(0).items()}
    groups = [
        {"params": [p for path, p in params.items() if path in DECAYED], "weight_decay": weight_decay},
        {"params": [p for path, p in params.items() if path not in DECAYED], "weight_decay": 0.0},
    ]
    rule = make(groups)
    for step in range(STEPS):
        for group in rule.param_groups:
            group["lr"] = rate(step)
        for path, grad in drawn(step + 1).items():
            params[path].grad = torch.tensor(grad)
        rule.step()
    return {path: p.detach().numpy() for path, p in params.items()}


def same(a: Params, b: Params) -> None:
    found = leaf_gaps(a, b)
    assert max(found.values()) < PARAMETERS, worst(found)


def test_adamw_is_torchs():
    given = OptimizerConfig(weight_decay=0.3, beta1=0.8, beta2=0.95, eps=1e-4, clip_norm=None)
    same(ours(given), theirs(lambda g: torch.optim.AdamW(g, lr=PEAK, betas=(0.8, 0.95), eps=1e-4), 0.3))


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_torchs(nesterov: bool):
    given = OptimizerConfig(name="sgd", weight_decay=0.1, beta1=0.8, clip_norm=None, nesterov=nesterov)
    same(ours(given), theirs(lambda g: torch.optim.SGD(g, lr=PEAK, momentum=0.8, nesterov=nesterov), 0.1))


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_lamb_is_timms(weight_decay: float):
    given = OptimizerConfig(name="lamb", weight_decay=weight_decay, beta2=0.95, eps=1e-6, clip_norm=None)
    same(
        ours(given),
        theirs(lambda g: Lamb(g, lr=PEAK, betas=(0.9, 0.95), eps=1e-6, max_grad_norm=None), weight_decay),
    )


def test_lamb_adapts_what_decays_and_nothing_else():
    """optax.lamb adapts all: against it only what is spared differs."""
    given = OptimizerConfig(name="lamb", weight_decay=0.1, eps=1e-6, clip_norm=None)
    found = ours(given)
    mask = {path: path in DECAYED for path in SHAPES}
    chain = optax.chain(
        optax.scale_by_adam(eps=1e-6),
        optax.add_decayed_weights(0.1, mask=mask),
        optax.scale_by_trust_ratio(),
        scale_by_given_rate(None, 1),
    )
    gaps = leaf_gaps(found, run(chain))
    assert {path for path, gap in gaps.items() if gap > PARAMETERS} == set(SHAPES) - DECAYED


def test_adafactor_is_big_visions_as_timm_has_it():
    """In float64, momentum too; the recipes' own is in bfloat16."""
    given = OptimizerConfig(name="adafactor", weight_decay=0.0, clip_norm=None)
    found = run(optax.chain(adafactor(given, PEAK, jnp.float64), scale_by_given_rate(None, 1)))
    options: dict[str, Any] = dict(min_dim_size_to_factor=32, momentum_dtype=torch.float64, eps=1e-30)
    same(found, theirs(lambda g: AdafactorBigVision(g, lr=PEAK, **options), 0.0))


class Both:
    """Two rules of torch's, each of its own parameters."""

    def __init__(self, *rules: torch.optim.Optimizer):
        self.rules = rules
        self.param_groups = [group for rule in rules for group in rule.param_groups]

    def step(self) -> None:
        for rule in self.rules:
            rule.step()


def test_muon_is_torchs_of_matrices_in_blocks_and_adamw_elsewhere(monkeypatch: pytest.MonkeyPatch):
    """torch's orthogonal matrices are in bfloat16; that one rounding is left out here, and all is float64. Of one
    matrix the gradients vanish: its steps are smaller."""
    tall, still = "blocks.0.mlp.fc2.kernel", "blocks.0.attn.proj.kernel"
    monkeypatch.setitem(SHAPES, tall, (96, 48))
    monkeypatch.setitem(SHAPES, still, (4, 4))
    monkeypatch.setattr(sys.modules[__name__], "DECAYED", DECAYED | {tall, still})
    everywhere = drawn
    monkeypatch.setattr(
        sys.modules[__name__],
        "drawn",
        lambda seed: {path: x * (1e-8 if seed and path == still else 1) for path, x in everywhere(seed).items()},
    )
    found = ours(OptimizerConfig(name="muon", weight_decay=0.1, beta1=0.95, beta2=0.99, clip_norm=None))
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x)

    def both(groups: list[dict[str, Any]]) -> Any:
        decayed, spared = groups
        matrices, patches = ([p for p in decayed["params"] if (p.ndim == 2) == flat] for flat in (True, False))
        muon = torch.optim.Muon(matrices, lr=PEAK, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
        return Both(muon, torch.optim.AdamW([decayed | {"params": patches}, spared], lr=PEAK, betas=(0.95, 0.99)))

    same(found, theirs(both, 0.1))


@pytest.mark.slow
def test_muons_state_is_restored_with_the_bits_that_were_saved(tmp_path: Path):
    step = small_step(name="muon", beta1=0.95)
    state, _ = after(step, steps=3)
    with saver_in(tmp_path / "steps") as saver:
        saver.save(int(state.step), state, ())
    with saver_in(tmp_path / "steps") as saver:
        assert_same_bits(saver.restore(abstract(state)), state)


def test_decay_off_the_rate_takes_the_rates_share_of_its_peak():
    """big_vision: w <- w - lr * direction - (lr / peak) * decay * w. With no gradient, decay is all that moves."""
    rule = optimizer.make(replaced(OptimizerConfig(weight_decay=0.03, decay_times_peak=False)))
    params = {path: jnp.asarray(x) for path, x in drawn(0).items()}
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates: Any = rule.update(zeros, rule.init(params), params, learning_rate=jnp.asarray(PEAK / 4))[0]
    for path, x in params.items():
        expected = -0.03 / 4 * x if path in DECAYED else jnp.zeros_like(x)
        assert elementwise(updates[path], expected) < EXACT


def test_binary_cross_entropy_is_timms():
    random = np.random.default_rng(0)
    logits, targets = random.standard_normal((6, 7)) * 3, random.random((6, 7))
    expected = BinaryCrossEntropy(smoothing=0.0)(torch.tensor(logits), torch.tensor(targets))
    assert abs(float(binary_cross_entropy(jnp.asarray(logits), jnp.asarray(targets))) - expected.item()) < EXACT


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(name="adamw", nesterov=True), "nesterov is sgd's"),
        (dict(name="lamb", decay_times_peak=False), "lamb's decay"),
        (dict(layer_decay=1.5), r"layer_decay must be in \(0, 1\], got 1.5"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        replaced(OptimizerConfig(**given))
