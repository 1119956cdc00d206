"""Layer-wise learning rates are timm's, parameter by parameter, and the update of a layer is scaled by its rate."""

import numpy as np
import pytest
import timm
from timm.optim._param_groups import param_groups_layer_decay

from parity_tests.compare import gap
from parity_tests.small_step import MODEL, after, small_state, small_step
from parity_tests.tolerances import EXACT, ROUNDING
from train.optimizer.layers import layer_scale
from vit_convert.hub import hub_shapes
from vit_convert.presets import get_preset

NAME, DEPTH = "vit_tiny_patch16_224", 12


def test_rates_are_timms():
    """But for the norm behind the blocks, which timm puts with the last block, and BEiT, MAE and we with the head."""
    model = timm.create_model(NAME, pretrained=False)
    groups = param_groups_layer_decay(model, layer_decay=0.75)
    theirs = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    named = dict(model.named_parameters())
    assert named.keys() == hub_shapes(get_preset(NAME).config).keys()
    for name, parameter in named.items():
        ours = layer_scale(name, DEPTH, 0.75)
        if name.startswith("norm."):
            assert ours == 1
        else:
            assert gap(ours, theirs[id(parameter)]) < EXACT, name


def test_without_a_decay_all_layers_have_the_same_rate():
    assert {layer_scale(name, MODEL.depth, None) for name in hub_shapes(MODEL)} == {1.0}


@pytest.mark.slow
def test_an_update_is_the_usual_one_times_its_layers_part():
    """One step of SGD without momentum: an update is the rate times the gradient, which is the same in both."""
    plain: dict = dict(name="sgd", beta1=0.0, weight_decay=0.0, clip_norm=None)
    begun = small_state(small_step(**plain)).params
    usual, decayed = (after(small_step(**plain, layer_decay=d))[0].params for d in (None, 0.5))
    for path in begun:
        part = layer_scale(path.replace("kernel", "weight").replace("scale", "weight"), MODEL.depth, 0.5)
        moved, expected = decayed[path] - begun[path], part * (usual[path] - begun[path])
        assert float(np.abs(moved - expected).max()) < ROUNDING  # of parameters around 0.3
    assert layer_scale("pos_embed", MODEL.depth, 0.5) == 0.125
    assert layer_scale("head.weight", MODEL.depth, 0.5) == 1
