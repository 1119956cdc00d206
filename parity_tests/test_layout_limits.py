"""What a layout can't hold is refused by name before anything is written; what it holds has a place in it."""

import pytest
from hypothesis import given, settings

from parity_tests.layout_files import HF
from parity_tests.strategies import configs, random_tensors
from vit_convert.checkpoint import layout_shapes, save_checkpoint
from vit_convert.errors import CheckpointError
from vit_convert.layouts import LAYOUTS

REFUSED = {
    "open_clip:vit": [
        (HF, "patch_bias True: only False\n  head_bias True: only False"),
        (HF.replace(patch_bias=False, num_classes=0), "num_classes 0: a visual tower ends with a projection"),
    ],
    "open_clip": [(HF, "this is none of timm:vit's architectures, .*its own tower: --to open_clip:vit")],
    "torchvision": [
        (HF, "image_size 6x9: only squares\n  patch_size 2x3: only squares"),
        (
            HF.replace(image_size=6, patch_size=2, num_registers=2, layer_scale=True, act="gelu_tanh"),
            "num_registers 2: only 0\n  layer_scale True: only False\n  act 'gelu_tanh': only 'gelu'",
        ),
        (
            HF.replace(image_size=6, patch_size=2, num_classes=0, pre_logits=9),
            "pre_logits 9: only 0 with num_classes 0",
        ),
    ],
    "timm:vit": [
        (HF.replace(norm_eps=1e-12), r"norm_eps 1e-12: only 1e-06 or 1e-05 with norm 'layer' .*; --set norm_eps=1e-06"),
        (HF.replace(pos_embed="sincos2d"), "pos_embed 'sincos2d': only 'learned' or 'none'"),
        (HF.replace(pre_norm=True), "patch_bias True: only False with pre_norm True"),
        (HF.replace(dist_token=True), "dist_token True: only False with pool 'class'"),
        (HF.replace(pool="map", mlp="swiglu"), "mlp 'swiglu': only 'mlp' with pool 'map'"),
        (HF.replace(pre_logits=9, pool="class_mean"), r"pool 'class_mean': only .*\n  pre_logits 9: only 0"),
        (HF.replace(proj_bias=False), "mlp_bias True: only False with proj_bias False"),
    ],
    "timm:eva": [
        (HF, "qkv_bias 'all': only 'qv' or 'none'"),
        (HF.replace(qkv_bias="qv", act="silu"), "act 'silu': only 'gelu' with mlp 'mlp'"),
        (HF.replace(qkv_bias="qv", pool="map"), "class_token True: only False with pool 'map'"),
        (
            HF.replace(qkv_bias="qv", rope="dinov3", rope_theta=50, rope_round_periods="bfloat16"),
            "rope_round_periods 'bfloat16': only 'none': timm's are exact; --set rope_round_periods=none takes that",
        ),
    ],
    "transformers": [
        (HF.replace(num_registers=2, layer_scale=True), "num_registers 2: only 0\n  layer_scale True: only False"),
        (HF.replace(pool="mean"), "pool 'mean': only 'class'"),
        (HF.replace(pre_logits=9), "pre_logits 9: only 0 with num_classes 5"),
    ],
}


@pytest.mark.parametrize(("layout", "config", "message"), [(n, c, m) for n, rows in REFUSED.items() for c, m in rows])
def test_what_a_layout_cannot_hold_is_refused_before_anything_is_written(tmp_path, layout, config, message):
    with pytest.raises(CheckpointError, match=message):
        save_checkpoint(tmp_path / "out", config, random_tensors(config).items(), layout=layout)
    assert not list(tmp_path.iterdir())


@settings(max_examples=60)
@given(config=configs())
def test_a_layout_holds_a_model_or_says_why_not(config):
    """`check` and the table agree: what is not refused has a place for every tensor."""
    for layout in LAYOUTS.values():
        try:
            layout.check(config)
        except CheckpointError:
            continue
        layout_shapes(layout, config)
