"""What timm's Eva writes with options of its own is read as the same function in float64, or refused by name."""

import pytest
import torch
from timm import create_model
from timm.models import save_for_hf

import vit_torch
from parity_tests.compare import gap
from parity_tests.peers import float64_rotary_tables
from parity_tests.tolerances import FORWARD
from vit_convert.checkpoint import open_checkpoint
from vit_convert.errors import CheckpointError

SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 4, "img_size": (6, 9), "patch_size": (2, 3), "num_classes": 5}


def written(path, name, options):
    """A model of timm's with weights that all matter, and its directory as timm writes it."""
    torch.manual_seed(0)
    model = create_model(name, **SMALL, **options, dtype=torch.float64).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    save_for_hf(model, path, model_args=SMALL | options, safe_serialization=True)
    return model


def assert_same_function(path, name, options):
    with float64_rotary_tables(), torch.no_grad():
        theirs = written(path, name, options)
        images = torch.randn(2, 3, *SMALL["img_size"], dtype=torch.float64)
        assert gap(vit_torch.ViT.from_pretrained(path).eval()(images), theirs(images)) <= FORWARD


def test_an_attention_pool_over_patches_alone_is_read(tmp_path):
    assert_same_function(tmp_path, "eva_giant_patch14_224", {"global_pool": "map", "class_token": False})


@pytest.mark.parametrize(
    ("name", "options", "odd"),
    [
        ("eva_giant_patch14_224", {}, "class_token True"),
        ("vit_small_patch16_dinov3", {}, "class_token True, num_registers 4"),
        ("eva_giant_patch14_224", {"class_token": False, "num_reg_tokens": 2}, "num_registers 2"),
        ("eva02_tiny_patch14_224", {"class_token": False}, "mlp 'swiglu'"),
    ],
)
def test_an_attention_pool_of_another_function_is_refused_by_name(tmp_path, name, options, odd):
    written(tmp_path, name, options | {"global_pool": "map"})
    with pytest.raises(CheckpointError, match=f"Eva with global_pool 'map' is not read with {odd}: it pools class and"):
        open_checkpoint(tmp_path)


ROTARY = {"use_rot_pos_emb": True}
# An architecture with the rotary positions of one kind in its code, or without; and options that change them.
ROTARY_OPTIONS = [
    ("eva_giant_patch14_224", ROTARY | {"ref_feat_shape": 5}),
    ("eva_giant_patch14_224", ROTARY | {"ref_feat_shape": (7, 7), "rope_temperature": 50.0}),
    ("eva_giant_patch14_224", ROTARY | {"rope_type": "dinov3", "rope_rotate_half": True, "rope_temperature": 100.0}),
    ("eva_giant_patch14_224", {"rope_type": "dinov3", "rope_temperature": 100.0}),
    ("eva_giant_patch14_224", {"rope_rotate_half": True}),
    ("eva02_tiny_patch14_224", ROTARY),
    ("eva02_tiny_patch14_224", ROTARY | {"rope_type": "dinov3", "rope_rotate_half": True}),
    ("eva02_tiny_patch14_224", {"use_rot_pos_emb": False, "rope_type": "cat", "rope_rotate_half": False}),
    ("vit_small_patch16_dinov3", {"rope_type": "cat", "rope_rotate_half": False, "ref_feat_shape": 4}),
    ("vit_small_patch16_dinov3", {"use_rot_pos_emb": False}),
]


@pytest.mark.parametrize(("name", "options"), ROTARY_OPTIONS, ids=str)
def test_rotary_positions_are_those_that_the_options_make_of_the_code_s(tmp_path, name, options):
    assert_same_function(tmp_path, name, options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("eva_giant_patch14_224", ROTARY | {"rope_type": "dinov3"}),
        ("eva02_tiny_patch14_224", {"rope_type": "dinov3"}),
        ("vit_small_patch16_dinov3", {"rope_type": "cat"}),
    ],
)
def test_rotary_positions_that_turn_the_other_half_are_refused_by_name(tmp_path, name, options):
    written(tmp_path, name, options)
    with pytest.raises(CheckpointError, match=r"these model_args are not read: {'rope_rotate_half'"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("eva_giant_patch14_224", ROTARY),
        ("eva02_tiny_patch14_224", {"ref_feat_shape": None}),
        ("vit_small_patch16_dinov3", {"rope_type": "cat", "rope_rotate_half": False}),
    ],
)
def test_rotary_positions_without_a_grid_that_they_are_scaled_to_are_refused_by_name(tmp_path, name, options):
    written(tmp_path, name, options)
    with pytest.raises(CheckpointError, match="rope_type 'cat' are read with a ref_feat_shape alone"):
        open_checkpoint(tmp_path)
