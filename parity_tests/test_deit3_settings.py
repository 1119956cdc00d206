"""What DeiT III alone asks of a run: where layer scales begin, targets that count whole, and what goes with them."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import torch

from parity_tests.tolerances import EXACT
from train.config import ConfigError, StartConfig
from train.losses import binarised, binary_cross_entropy
from train.model import make_model
from train.recipes import RECIPES
from vit_convert.layouts.native import hub_name
from vit_convert.roles import role
from vit_torch.training import losses as theirs
from vit_torch.training.loop.settings import checked, flat
from vit_torch.training.loop.start import start_model

SMALL = dict(image_size=8, patch_size=4, dim=12, depth=2, num_heads=2, mlp_dim=16, num_classes=3)


def small(**changes: object):
    recipe = RECIPES["deit3_s"]()
    return replace(recipe, model=recipe.model.replace(**SMALL), dtype="float32", **changes)


def test_layer_scales_begin_where_the_run_says_in_both_frameworks():
    config = small()
    params = make_model(config)[1](jax.random.key(0))
    scales = {path: np.asarray(x) for path, x in params.items() if role(hub_name(path)) == "layer_scale"}
    assert len(scales) == 4
    assert all((x == np.float32(1e-4)).all() for x in scales.values())
    kept = make_model(replace(config, start=replace(config.start, layer_scale=None)))[1](jax.random.key(0))
    assert all((np.asarray(kept[path]) == np.float32(1e-5)).all() for path in scales)
    digits = RECIPES["digits"]()
    given = replace(digits, model=digits.model.replace(layer_scale=True), start=StartConfig(layer_scale=1e-4))
    model = start_model(checked(flat(given.to_dict()), "the config"), ())
    torchs = [p for name, p in model.named_parameters() if role(name) == "layer_scale"]
    assert len(torchs) == 2 * digits.model.depth
    assert all(torch.equal(p, torch.full_like(p, 1e-4)) for p in torchs)


def test_a_mixed_target_counts_each_of_its_classes_whole():
    """Against torch's own loss on targets of ones."""
    logits = np.random.default_rng(0).standard_normal((4, 5))
    soft = np.zeros((4, 5))
    for row, (a, b, share) in enumerate([(0, 1, 0.3), (2, 2, 0.6), (4, 1, 1e-6), (3, 0, 1.0)]):
        soft[row, a] += share
        soft[row, b] += 1 - share
    whole = (soft > 0).astype(float)
    assert whole.sum(1).tolist() == [2, 1, 2, 1]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(whole)).item()
    assert float(binary_cross_entropy(jax.numpy.asarray(logits), binarised(jax.numpy.asarray(soft)))) == pytest.approx(
        expected, rel=EXACT
    )
    ours = theirs.binarised(torch.tensor(soft))
    assert theirs.binary_cross_entropy(torch.tensor(logits), ours).item() == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "softmax"}, "binary_targets needs loss sigmoid, got softmax"),
        (
            {"augment": replace(RECIPES["deit3_s"]().augment, label_smoothing=0.1)},
            "binary_targets makes every smoothed class whole: augment.label_smoothing 0.1",
        ),
        ({"start": replace(RECIPES["deit3_s"]().start, layer_scale=0.0)}, "start.layer_scale"),
    ],
)
def test_what_does_not_go_together_is_said(changes: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        small(**changes)


def test_a_model_without_layer_scales_has_none_to_begin():
    recipe = RECIPES["deit3_s"]()
    with pytest.raises(ConfigError, match=r"start.layer_scale 0.0001 needs model.layer_scale"):
        replace(recipe, model=recipe.model.replace(**SMALL, layer_scale=False))
