"""Against code that is not ours: timm and transformers with the same random weights, float64, both ways."""

from typing import Any

import pytest
import timm
import torch
import transformers
from timm.layers.mlp import SwiGLUPacked

import vit_flax
import vit_torch
from parity_tests.compare import gap
from parity_tests.pairs import images_for, nchw, randomise, run_flax, run_torch
from parity_tests.tolerances import FORWARD
from vit_convert.config import ViTConfig

SIZES = dict(img_size=(24, 40), patch_size=(8, 10), embed_dim=36, depth=3, num_heads=3, mlp_ratio=2.5)
FIELDS = dict(image_size=(24, 40), patch_size=(8, 10), dim=36, depth=3, num_heads=3, mlp_dim=90)
INNER = {"scale_attn_norm": True, "scale_mlp_norm": True}
# timm's arguments, and the fields that say the same
TIMM = {
    "plain": ({}, {}),
    "norm before the mean": ({"global_pool": "avg", "fc_norm": False}, {"pool": "mean"}),
    "no class token": (
        {"global_pool": "avg", "class_token": False},
        {"pool": "mean", "final_norm": "pooled", "class_token": False},
    ),
    "attention pooling": ({"global_pool": "map", "class_token": False}, {"pool": "map", "class_token": False}),
    "registers with positions": ({"reg_tokens": 4}, {"num_registers": 4, "pos_prefix": "all"}),
    "norm before the blocks": ({"pre_norm": True}, {"pre_norm": True, "patch_bias": False}),
    "rms norm, inner norms, swiglu": (
        {**INNER, "norm_layer": "rmsnorm", "mlp_layer": SwiGLUPacked, "act_layer": "silu"},
        {"norm": "rms", "mlp": "swiglu", "mlp_dim": 45, "act": "silu", "attn_norm": True, "mlp_norm": True},
    ),
    "features": ({"num_classes": 0}, {"num_classes": 0}),
}


# What no bare file of timm's tells.
ASKED = ("image_size", "num_heads", "norm_eps", "act", "pool", "pos_resize", "rope")


def make_timm(**options: Any) -> torch.nn.Module:
    return timm.models.vision_transformer.VisionTransformer(**{"num_classes": 11, **SIZES, **options}).double().eval()


def config_for(**fields: Any) -> ViTConfig:
    return ViTConfig(**{"num_classes": 11, **FIELDS, **fields})


@pytest.mark.parametrize(("options", "fields"), TIMM.values(), ids=TIMM.keys())
def test_timms_weights_give_timms_answers_in_both_frameworks(tmp_path, options, fields):
    theirs, config = make_timm(**options), config_for(**fields)
    randomise(theirs, seed=1)
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    images = images_for(config)
    expected = theirs(nchw(images)).detach().numpy()
    given = {name: getattr(config, name) for name in (*ASKED, "pos_embed")}
    ours = vit_torch.ViT.from_pretrained(tmp_path / "timm.pth", overrides=given)
    assert ours.config == config
    assert gap(run_torch(ours, images)["output"], expected) < FORWARD
    flax = vit_flax.ViT.from_pretrained(tmp_path / "timm.pth", overrides=given)
    assert flax.config == config
    assert gap(run_flax(flax, images)["output"], expected) < FORWARD


def test_a_native_file_of_plain_options_loads_into_timm_as_it_is(tmp_path):
    ours = vit_torch.ViT(config_for()).double()
    randomise(ours, seed=3)
    theirs = make_timm()
    theirs.load_state_dict(ours.state_dict())
    images = images_for(ours.config)
    assert gap(theirs(nchw(images)).detach().numpy(), run_torch(ours, images)["output"]) < FORWARD


def make_transformers() -> transformers.ViTForImageClassification:
    sizes = dict(image_size=40, patch_size=8, hidden_size=36, num_hidden_layers=3, num_attention_heads=3)
    arguments: dict[str, Any] = {**sizes, "intermediate_size": 90, "num_labels": 11}
    config = transformers.ViTConfig(**arguments)
    model = transformers.ViTForImageClassification(config).double().eval()
    randomise(model, seed=4)
    return model


def test_transformers_intermediates_are_those_of_both_frameworks(tmp_path):
    theirs = make_transformers()
    theirs.save_pretrained(tmp_path / "hf")
    ours = vit_torch.ViT.from_pretrained(tmp_path / "hf")
    flax = vit_flax.ViT.from_pretrained(tmp_path / "hf")
    assert ours.config == flax.config
    images = images_for(ours.config)
    result = theirs(nchw(images), output_hidden_states=True, output_attentions=False)
    expected = result.logits.detach().numpy()
    names = ("embeddings", "blocks.0", "blocks.1")
    for found in (run_torch(ours, images, names), run_flax(flax, images, names)):
        assert gap(found["output"], expected) < FORWARD
        for name, hidden in zip(names, result.hidden_states, strict=False):
            assert gap(found[name], hidden.detach().numpy()) < FORWARD, name
