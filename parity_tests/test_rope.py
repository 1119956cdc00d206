"""Rotary positions are those of timm, transformers and Meta, in float64 to rounding and at any image size."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from timm.layers.norm import LayerNorm, RmsNorm
from timm.models.eva import Eva
from transformers import DINOv3ViTConfig
from transformers.models.dinov3_vit import modeling_dinov3_vit

import vit_flax
import vit_flax.rope
import vit_torch
from parity_tests.compare import gap
from parity_tests.pairs import images_for, make_pair, nchw, randomise, run_flax, run_torch, to_flax
from parity_tests.peers import float64_rotary_tables
from parity_tests.test_forward_parity import SMALL, check_forward, check_gradients
from parity_tests.tolerances import FORWARD, ROPE
from vit_convert.config import ViTConfig
from vit_convert.hub import hub_shapes
from vit_convert.positions import rope_table

SIZES: dict[str, Any] = dict(
    img_size=(24, 50), patch_size=(8, 10), embed_dim=48, depth=2, num_heads=3, mlp_ratio=2.5, num_classes=11
)
FIELDS: dict[str, Any] = dict(
    image_size=(24, 50), patch_size=(8, 10), dim=48, depth=2, num_heads=3, mlp_dim=120, num_classes=11, rope_theta=100
)
GOLDEN = Path(__file__).parent / "golden" / "dinov3"
OTHER = (56, 40)  # another size, with another longer side: 7 x 4 patches for 3 x 5

EVA02: dict[str, Any] = dict(use_rot_pos_emb=True, ref_feat_shape=(16, 16), rope_temperature=100, swiglu_mlp=True)
EVA02_FIELDS: dict[str, Any] = dict(
    rope="eva02", rope_ref_grid=16, pool="mean", final_norm="pooled", qkv_bias="qv", mlp="swiglu", act="silu"
)
DINOV3: dict[str, Any] = dict(
    use_rot_pos_emb=True, rope_type="dinov3", rope_temperature=100, rope_rotate_half=True, use_abs_pos_emb=False,
    num_reg_tokens=4, use_fc_norm=False, init_values=1.0, norm_layer=partial(LayerNorm, eps=1e-5),
)  # fmt: skip
DINOV3_FIELDS: dict[str, Any] = dict(
    rope="dinov3", pos_embed="none", num_registers=4, pool="mean", qkv_bias="qv", layer_scale=True, norm_eps=1e-5
)
# timm's arguments, and the fields that say the same
TIMM: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dinov3": (DINOV3, DINOV3_FIELDS),
    "dinov3, no bias, swiglu, class": (
        DINOV3 | {"qkv_bias": False, "global_pool": "token", "swiglu_mlp": True, "swiglu_align_to": 8},
        DINOV3_FIELDS | {"qkv_bias": "none", "pool": "class", "mlp": "swiglu", "act": "silu"},
    ),
    "eva02": (EVA02, EVA02_FIELDS),
    "eva02, unfused, norm in the mlp": (
        EVA02 | {"qkv_fused": False, "scale_mlp": True},
        EVA02_FIELDS | {"mlp_norm": True},
    ),
    "eva02, rms norm everywhere": (
        EVA02 | {"qk_norm": True, "scale_attn_inner": True, "scale_mlp": True, "norm_layer": RmsNorm},
        EVA02_FIELDS | {"qk_norm": True, "attn_norm": True, "mlp_norm": True, "norm": "rms"},
    ),
    "eva02, register, no class token": (
        EVA02 | {"class_token": False, "num_reg_tokens": 1, "no_embed_class": True},
        EVA02_FIELDS | {"class_token": False, "num_registers": 1},
    ),
}
# Hub name (a part of it) -> theirs, the rows of which are stacked
EVA_NAMES = {
    "attn.qkv.weight": ("attn.q_proj.weight", "attn.k_proj.weight", "attn.v_proj.weight"),
    "attn.q_bias": ("attn.q_proj.bias",),
    "attn.v_bias": ("attn.v_proj.bias",),
    "mlp.fc1": ("mlp.fc1_g", "mlp.fc1_x"),
    "ls1.gamma": ("gamma_1",),
    "ls2.gamma": ("gamma_2",),
}
HF_NAMES = {
    "cls_token": ("embeddings.cls_token",),
    "reg_token": ("embeddings.register_tokens",),
    "patch_embed.proj": ("embeddings.patch_embeddings",),
    "attn.qkv.weight": ("attention.q_proj.weight", "attention.k_proj.weight", "attention.v_proj.weight"),
    "attn.q_bias": ("attention.q_proj.bias",),
    "attn.v_bias": ("attention.v_proj.bias",),
    "attn.proj": ("attention.o_proj",),
    "mlp.fc1": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.fc2": ("mlp.down_proj",),
    "ls1.gamma": ("layer_scale1.lambda1",),
    "ls2.gamma": ("layer_scale2.lambda1",),
}
META_NAMES = {
    "reg_token": ("storage_tokens",),
    "mlp.fc1": ("mlp.w1", "mlp.w2"),
    "mlp.fc2": ("mlp.w3",),
}
ASIDE = ("mask_token", "rope_embed.periods", "qkv.bias_mask")


def pair_with(
    theirs: Mapping[str, torch.Tensor], config: ViTConfig, names: Mapping[str, tuple[str, ...]]
) -> tuple[vit_torch.ViT, vit_flax.ViT]:
    """Our two models, which take any size, with the weights of theirs: all of them, but for those left ASIDE."""
    state = {name.replace("model.layer.", "blocks."): x for name, x in theirs.items() if not name.endswith(ASIDE)}

    def find(name: str) -> torch.Tensor:
        if name in state:
            return state.pop(name)
        part = next(part for part in names if part in name)
        spelled = [name.replace(part, other) for other in names[part]]
        return torch.cat([state.pop(name) for name in spelled if name in state])

    ours = vit_torch.ViT(config, dynamic_size=True).double()
    ours.load_state_dict({name: find(name) for name in hub_shapes(config)})
    assert not state
    return ours, to_flax(ours, param_dtype=jnp.float64, dynamic_size=True)


def check_both(
    ours: tuple[vit_torch.ViT, vit_flax.ViT], images: np.ndarray, expected: np.ndarray, bound: float
) -> None:
    """Torch's fused attention, and both frameworks' explicit one: that is Flax's anyway."""
    names = ("blocks.0.attn.weights", "blocks.1.attn.weights")
    assert gap(run_torch(ours[0], images)["output"], expected) < bound
    assert gap(run_torch(ours[0], images, names)["output"], expected) < bound
    assert gap(run_flax(ours[1], images, names)["output"], expected) < bound


@pytest.fixture
def float64_tables():
    with float64_rotary_tables():
        yield


def config_for(fields: dict[str, Any], **more: Any) -> ViTConfig:
    return ViTConfig(**{**FIELDS, **fields, **more})


def make_timm(**options: Any) -> Eva:
    model = Eva(**{**SIZES, **options}, dtype=torch.float64).eval()
    randomise(model, seed=1)
    return model


def check_timm(options: dict[str, Any], fields: dict[str, Any], bound: float) -> None:
    theirs, config = make_timm(**options), config_for(fields)
    images = images_for(config)
    check_both(pair_with(theirs.state_dict(), config, EVA_NAMES), images, theirs(nchw(images)).detach().numpy(), bound)


def check_timm_at_another_size(options: dict[str, Any], fields: dict[str, Any], bound: float) -> None:
    """Without a table of learned positions, which timm resizes in float32."""
    theirs = make_timm(**options | {"use_abs_pos_emb": False}, dynamic_img_size=True)
    config = config_for(fields, pos_embed="none")
    images = images_for(config, size=OTHER)
    check_both(pair_with(theirs.state_dict(), config, EVA_NAMES), images, theirs(nchw(images)).detach().numpy(), bound)


@pytest.mark.parametrize("name", ["dinov3", "eva02"])
@pytest.mark.parametrize("check", [check_timm, check_timm_at_another_size])
def test_timms_weights_give_timms_answers_but_for_its_float32_tables(name, check):
    options, fields = TIMM[name]
    check(options, fields, ROPE)


@pytest.mark.parametrize(("options", "fields"), TIMM.values(), ids=TIMM.keys())
def test_timms_weights_give_timms_answers_where_its_tables_are_float64(float64_tables, options, fields):
    check_timm(options, fields, FORWARD)


@pytest.mark.parametrize("name", ["dinov3", "eva02"])
def test_angles_follow_the_image_size_as_timms_do(float64_tables, name):
    options, fields = TIMM[name]
    check_timm_at_another_size(options, fields, FORWARD)


def test_rounded_periods_are_timms_with_metas_periods(float64_tables):
    options, fields = TIMM["dinov3"]
    theirs = make_timm(**options, dynamic_img_size=True)
    config = config_for(fields, rope_round_periods="bfloat16")
    images = images_for(config)
    rope: Any = theirs.rope
    rope.periods = rope.periods.bfloat16().double()  # what a bfloat16 tensor of a file leaves
    check_both(
        pair_with(theirs.state_dict(), config, EVA_NAMES), images, theirs(nchw(images)).detach().numpy(), FORWARD
    )


def check_transformers(gated: bool, size: tuple[int, int], bound: float) -> None:
    """`pooler_output`, the normed class token, of images of any size."""
    sizes: dict[str, Any] = dict(image_size=[24, 50], patch_size=[8, 10], hidden_size=48, num_hidden_layers=2)
    sizes |= dict(num_attention_heads=3, intermediate_size=120, num_register_tokens=4, use_gated_mlp=gated)
    act = "silu" if gated else "gelu"
    theirs = modeling_dinov3_vit.DINOv3ViTModel(DINOv3ViTConfig(**sizes, hidden_act=act)).double().eval()
    randomise(theirs, seed=2)
    fields = DINOV3_FIELDS | {"pool": "class", "num_classes": 0, "act": act, "mlp": "swiglu" if gated else "mlp"}
    config = config_for(fields)
    images = images_for(config, size=size)
    expected = theirs(nchw(images)).pooler_output.detach().numpy()
    check_both(pair_with(theirs.state_dict(), config, HF_NAMES), images, expected, bound)


@pytest.mark.parametrize("size", [(24, 50), OTHER], ids=str)
def test_transformers_weights_give_transformers_answers_but_for_its_float32_tables(size):
    check_transformers(False, size, ROPE)


@pytest.mark.parametrize("gated", [False, True], ids=["mlp", "gated"])
@pytest.mark.parametrize("size", [(24, 50), OTHER], ids=str)
def test_transformers_weights_give_transformers_answers_where_its_tables_are_float64(float64_tables, gated, size):
    check_transformers(gated, size, FORWARD)


@pytest.mark.parametrize("case", ["mlp", "swiglu", "float32_periods"])
def test_metas_weights_give_metas_answers_with_the_periods_of_their_file(case):
    """Golden files, of facebookresearch/dinov3's own class in float64: `mlp` and `swiglu` have bfloat16 periods."""
    record, state = json.loads((GOLDEN / f"{case}.json").read_text()), torch.load(GOLDEN / f"{case}.pth")
    config = ViTConfig(**record["config"])
    for name in [name for name in state if name.endswith("qkv.bias")]:
        parts = zip(("q_bias", "k_bias", "v_bias"), state.pop(name).chunk(3), strict=True)
        state |= {name.replace("qkv.bias", part): x for part, x in parts if part != "k_bias"}  # its mask is zero
    ours = pair_with(state, config, META_NAMES)
    with np.load(GOLDEN / f"{case}.expected.npz") as expected:
        for size in ("20x20", "12x28"):
            check_both(ours, expected[f"images_{size}"] / 127.5 - 1, expected[f"output_{size}"], FORWARD)


# --- what changes the function


ROPE_CONFIGS = {
    "dinov3": SMALL.replace(rope="dinov3", rope_theta=50, rope_round_periods="bfloat16", num_registers=3),
    "eva02": SMALL.replace(rope="eva02", rope_theta=1e4, rope_ref_grid=16),
}


def pairs_elsewhere(patch: pytest.MonkeyPatch, config: ViTConfig) -> None:
    """Neighbours for halves, halves for neighbours: the most frequent mistake of ports."""
    other = {"dinov3": "eva02", "eva02": "dinov3"}[config.rope]
    patch.setitem(vit_flax.rope.QUARTER_TURNS, config.rope, vit_flax.rope.QUARTER_TURNS[other])


def with_table(
    change: Callable[[ViTConfig, np.ndarray], np.ndarray],
) -> Callable[[pytest.MonkeyPatch, ViTConfig], None]:
    """Flax's sines and cosines (T, D/H) changed."""

    def plant(patch: pytest.MonkeyPatch, config: ViTConfig) -> None:
        wrong = lambda config, grid: tuple(change(config, part) for part in rope_table(config, grid))  # noqa: E731
        patch.setattr(vit_flax.rope, "rope_table", wrong)

    return plant


def x_before_y(config: ViTConfig, table: np.ndarray) -> np.ndarray:
    return np.roll(table, config.head_dim // {"dinov3": 4, "eva02": 2}[config.rope], axis=1)


def rotated_prefix(config: ViTConfig, table: np.ndarray) -> np.ndarray:
    """As if the class token and the registers were the first patches."""
    return np.concatenate([table[config.num_prefix :], table[: config.num_prefix]])


def float32_table(config: ViTConfig, table: np.ndarray) -> np.ndarray:
    return table.astype(np.float32)


def unrounded_periods(patch: pytest.MonkeyPatch, config: ViTConfig) -> None:
    table = lambda config, grid: rope_table(config.replace(rope_round_periods="none"), grid)  # noqa: E731
    patch.setattr(vit_flax.rope, "rope_table", table)


MISTAKES = {
    "pairs elsewhere": pairs_elsewhere,
    "x before y": with_table(x_before_y),
    "rotated prefix": with_table(rotated_prefix),
    "float32 table": with_table(float32_table),
}


@pytest.mark.parametrize("config", ROPE_CONFIGS.values(), ids=ROPE_CONFIGS.keys())
@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
@pytest.mark.slow
def test_a_planted_mistake_turns_the_suite_red(monkeypatch, mistake, config):
    mistake(monkeypatch, config)
    with pytest.raises(AssertionError, match="differs by"):
        check_forward(config)


@pytest.mark.slow
def test_periods_left_unrounded_turn_the_suite_red(monkeypatch):
    unrounded_periods(monkeypatch, ROPE_CONFIGS["dinov3"])
    with pytest.raises(AssertionError, match="differs by"):
        check_forward(ROPE_CONFIGS["dinov3"])


@pytest.mark.parametrize("config", ROPE_CONFIGS.values(), ids=ROPE_CONFIGS.keys())
@pytest.mark.slow
def test_nothing_planted_is_green(config):
    check_forward(config)


@pytest.mark.parametrize("config", ROPE_CONFIGS.values(), ids=ROPE_CONFIGS.keys())
def test_gradients_agree_at_another_size(config):
    check_gradients(config, size=(35, 27), dynamic_size=True)


@pytest.mark.parametrize("config", ROPE_CONFIGS.values(), ids=ROPE_CONFIGS.keys())
@pytest.mark.slow
def test_attention_dropout_is_on_the_rotated_weights(config):
    """The path that drops weights, at a rate that drops none to speak of, is the one that doesn't."""
    config = config.replace(depth=1)
    plain, _ = make_pair(config)
    dropping = vit_torch.ViT(config, attn_dropout=1e-300).double()
    dropping.load_state_dict(plain.state_dict())
    images = images_for(config)
    with torch.no_grad():
        found = dropping(nchw(images), generator=torch.Generator().manual_seed(0))
    assert gap(found, run_torch(plain, images)["output"]) < FORWARD
    flax = to_flax(plain, param_dtype=jnp.float64, attn_dropout=1e-300)
    assert gap(flax(jnp.asarray(images), key=jax.random.key(0)), run_flax(flax, images)["output"]) < FORWARD


# --- what a config may say


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rope": "dinov3"}, "rope='dinov3' needs rope_theta"),
        ({"rope": "eva02"}, "rope='eva02' needs rope_theta and rope_ref_grid"),
        ({"rope": "eva02", "rope_theta": 1e4}, "rope='eva02' needs rope_ref_grid"),
        ({"rope": "dinov3", "rope_theta": 100, "rope_ref_grid": 16}, "rope_ref_grid given, but rope is 'dinov3'"),
        (
            {"rope": "eva02", "rope_theta": 1e4, "rope_ref_grid": 16, "rope_round_periods": "bfloat16"},
            "rope_round_periods given, but rope is 'eva02'",
        ),
        (
            {"rope_theta": 100, "rope_round_periods": "bfloat16"},
            "rope_theta, rope_round_periods given, but rope is 'no",
        ),
        ({"rope": "dinov3", "rope_theta": 100, "num_heads": 4}, "width divisible by 4 and at least 8, got 10"),
        ({"rope": "dinov3", "rope_theta": 100, "num_heads": 10}, "width divisible by 4 and at least 8, got 4"),
        ({"rope": "axial"}, "rope must be one of none, dinov3, eva02, got 'axial'"),
        *(
            ({"rope": "dinov3", "rope_theta": value}, "rope_theta must be a positive number")
            for value in (0, -1.0, "100", True, float("nan"), float("inf"))
        ),
        *(
            (
                {"rope": "eva02", "rope_theta": 100, "rope_ref_grid": value},
                "rope_ref_grid must be an integer of at least 1",
            )
            for value in (0, 16.0, "16", True, (16, 16))
        ),
    ],
    ids=str,
)
def test_a_config_that_contradicts_itself_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SMALL.replace(**fields)


def test_equal_functions_have_equal_configs():
    assert SMALL.replace(rope="dinov3", rope_theta=100) == SMALL.replace(rope="dinov3", rope_theta=100.0)
    config = SMALL.replace(rope="eva02", rope_theta=1e4, rope_ref_grid=16)
    assert ViTConfig.from_dict(config.to_dict()) == config
    assert config.replace(rope="none", rope_theta=None, rope_ref_grid=None) == SMALL


@pytest.mark.parametrize("config", ROPE_CONFIGS.values(), ids=ROPE_CONFIGS.keys())
def test_a_checkpoint_without_learned_positions_takes_another_image_size(tmp_path, config):
    ours, flax = make_pair(config.replace(pos_embed="none"), dynamic_size=True)
    ours.save_pretrained(tmp_path / "checkpoint")
    images = images_for(config, size=(35, 27))
    expected = run_torch(ours, images)["output"]
    assert gap(run_flax(flax, images)["output"], expected) < FORWARD
    bigger = vit_torch.ViT.from_pretrained(tmp_path / "checkpoint", image_size=(35, 27))
    assert gap(run_torch(bigger, images)["output"], expected) < FORWARD
