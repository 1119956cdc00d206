"""Names and shapes tell every field of a config that they can; what they can't tell is asked for."""

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings

from parity_tests.layout_files import HF, save, temporary_folders_in
from parity_tests.strategies import configs, random_tensors
from vit_convert.checkpoint import layout_shapes, open_checkpoint
from vit_convert.errors import CheckpointError
from vit_convert.hub import hub_shapes
from vit_convert.layouts.names import HUB
from vit_convert.roles import role


@pytest.fixture(autouse=True, scope="module")
def _temporary_folders_go_away(tmp_path_factory):
    with temporary_folders_in(tmp_path_factory.mktemp("layouts")):
        yield


@pytest.mark.parametrize("name", ["vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14"])
def test_torchvision_s_own_models_tell_all_by_their_names_and_shapes(name):
    import torchvision

    from vit_convert.layouts.base import Bare
    from vit_convert.layouts.torchvision import TORCHVISION
    from vit_convert.resolve import resolve
    from vit_convert.rules import infer

    with torch.device("meta"):
        model: Any = torchvision.models.get_model(name)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    hub, unplaced = infer(TORCHVISION.rules, TORCHVISION.recognise(shapes) or {}, shapes)
    bare = TORCHVISION.bare(Bare(hub, shapes, lambda name: np.zeros(shapes[name])))
    config, sources = resolve("vit.pth", hub, bare, None, {}, unplaced)
    assert layout_shapes(TORCHVISION, config) == shapes
    assert config.num_heads == model.encoder.layers.encoder_layer_0.self_attention.num_heads
    assert config.norm_eps == model.encoder.ln.eps
    assert (config.image_hw, config.num_classes) == ((model.image_size,) * 2, model.num_classes)
    assert (sources["num_heads"], sources["act"]) == (f"signature of {name}", "torchvision's code")


@settings(max_examples=60)
@given(config=configs())
def test_names_and_shapes_tell_every_field_that_they_can(config):
    """A bare file of hub names, and answers to what is asked: the same config comes back."""
    assume(config.pos_embed == "learned")
    path = save(config, random_tensors(config)) / "model.safetensors"
    bare = path.rename(path.parent.parent / "bare.safetensors")
    asked = ("image_size", "num_heads", "pos_resize", "rope", "norm_eps", "act", "pool")
    asked += ("rope_theta", "rope_ref_grid", "rope_round_periods") * (config.rope != "none")
    found = open_checkpoint(bare, overrides={name: getattr(config, name) for name in asked})
    assert found.config == config
    assert {found.sources[name] for name in ("dim", "depth", "mlp", "qkv_bias", "pos_prefix")} == {"names and shapes"}


@pytest.mark.parametrize(
    "fields",
    [
        {"pool": "map"},
        {"pool": "class_mean"},
        {"pool": "class_mean", "pre_logits": 9},
        {"pool": "class_dist", "dist_token": True},
        {"pool": "mean", "class_token": False},
        {"pool": "mean", "class_token": False, "final_norm": "pooled"},
        {"pool": "class", "qk_norm": True},
    ],
    ids=str,
)
def test_names_tell_the_pooling_where_only_one_has_them_and_the_heads_where_their_width_is_there(fields):
    config = HF.replace(**fields)
    path = save(config, random_tensors(config)) / "model.safetensors"
    bare = path.rename(path.parent.parent / "bare.safetensors")
    asked = {"image_size": (6, 9), "pos_resize": "bicubic", "rope": "none", "norm_eps": 1e-6, "act": "gelu"}
    told = "num_heads" if config.qk_norm else "pool"
    asked |= {name: getattr(config, name) for name in {"num_heads", "pool"} - {told}}
    found = open_checkpoint(bare, overrides=asked)
    assert (found.config, found.sources[told]) == (config, "names and shapes")


def test_a_norm_behind_the_pooling_does_not_tell_the_pooling_while_there_is_a_class_token():
    config = HF.replace(pool="mean", final_norm="pooled")
    bare = (save(config, random_tensors(config)) / "model.safetensors").rename(
        Path(tempfile.mkdtemp()) / "a.safetensors"
    )
    asked = {
        name: getattr(config, name) for name in ("image_size", "num_heads", "pos_resize", "rope", "norm_eps", "act")
    }
    with pytest.raises(CheckpointError, match="nothing tells pool"):
        open_checkpoint(bare, overrides=asked)
    assert open_checkpoint(bare, overrides=asked | {"pool": "mean"}).config == config
    with pytest.raises(CheckpointError, match=r"If it averages the patches, say so: --set pool=mean"):
        open_checkpoint(bare, overrides=asked | {"pool": "class"})


@settings(max_examples=60)
@given(config=configs())
def test_every_name_has_a_role_and_a_place_in_the_list_of_names(config):
    for name in hub_shapes(config):
        assert role(name)
        assert re.sub(r"^blocks\.\d+", "blocks.{block}", name) in HUB
