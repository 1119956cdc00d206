"""A preset is what timm, or its repository, builds under its name; each architecture of timm's is one or refused."""

from math import prod

import pytest

import vit_torch
from parity_tests.compare import gap
from parity_tests.families.timm import SIZES, saver
from parity_tests.pairs import images_for, run_torch
from parity_tests.selection import quick
from parity_tests.timm_configs import ACTS, Inexpressible, config_of, entry_points, meta_model
from parity_tests.tolerances import FORWARD
from vit_convert.checkpoint import layout_shapes, open_checkpoint, save_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.hub import hub_shapes
from vit_convert.layouts import choose
from vit_convert.layouts.base import Described
from vit_convert.layouts.refused import REFUSALS
from vit_convert.presets import PRESETS, get_preset
from vit_convert.presets.timm_vit import CUT_OFF
from vit_convert.resolve import resolve

TIMM = {name: preset for name, preset in PRESETS.items() if preset.origin == "timm"}


# What the original repositories built -> timm's port of the same weights.
PORTS = {
    "dino_vits16": "vit_small_patch16_224.dino",
    "dino_vits8": "vit_small_patch8_224.dino",
    "dino_vitb16": "vit_base_patch16_224.dino",
    "dino_vitb8": "vit_base_patch8_224.dino",
    "mae_vit_base_patch16": "vit_base_patch16_224.mae",
    "mae_vit_large_patch16": "vit_large_patch16_224.mae",
    "mae_vit_huge_patch14": "vit_huge_patch14_224.mae",
    "dinov2_vits14": "vit_small_patch14_dinov2",
    "dinov2_vitb14": "vit_base_patch14_dinov2",
    "dinov2_vitl14": "vit_large_patch14_dinov2",
    "dinov2_vitg14": "vit_giant_patch14_dinov2",
    "dinov2_vits14_reg": "vit_small_patch14_reg4_dinov2",
    "dinov2_vitb14_reg": "vit_base_patch14_reg4_dinov2",
    "dinov2_vitl14_reg": "vit_large_patch14_reg4_dinov2",
    "dinov2_vitg14_reg": "vit_giant_patch14_reg4_dinov2",
    "dinov3_vits16": "vit_small_patch16_dinov3_qkvb",
    "dinov3_vits16plus": "vit_small_plus_patch16_dinov3_qkvb",
    "dinov3_vitb16": "vit_base_patch16_dinov3_qkvb",
    "dinov3_vitl16": "vit_large_patch16_dinov3_qkvb",
    "dinov3_vith16plus": "vit_huge_plus_patch16_dinov3_qkvb",
    "dinov3_vit7b16": "vit_7b_patch16_dinov3",
}


@pytest.mark.parametrize("name", quick(TIMM.keys(), list(TIMM)[::5]))
def test_a_preset_is_timm_s_model_of_that_name(name):
    preset = PRESETS[name]
    model = meta_model(name, num_classes=preset.config.num_classes)
    config = preset.config.replace(num_classes=0)
    assert config == config_of(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert preset.parameters == sum(map(prod, shapes.values()))
    assert layout_shapes(choose("timm", preset.config)[0], preset.config) == shapes


def kinds() -> list[str]:
    """One architecture of each set of options, whatever its geometry."""
    same = dict(image_size=16, patch_size=16, dim=24, depth=1, num_heads=2, mlp_dim=24, num_classes=0)
    return list({preset.config.replace(**same): name for name, preset in reversed(TIMM.items())}.values())


@pytest.mark.parametrize("name", quick(kinds(), kinds()[::3]))
def test_each_kind_of_architecture_is_read_from_its_file_as_its_own_function(name, tmp_path):
    """timm's own file of it, at a tiny size: the same answers."""
    saved = saver(name, **SIZES)(tmp_path)
    ours = vit_torch.ViT.from_pretrained(tmp_path).double()
    images = images_for(ours.config)
    assert gap(run_torch(ours, images)["output"], saved.answer(images)) < FORWARD


def refusals(name):
    return [refusal.what for refusal in REFUSALS if refusal.covers((), "", name)] + ["size"] * (name in CUT_OFF)


def test_every_architecture_of_timm_s_is_a_preset_or_refused_for_one_reason():
    assert {name: len(refusals(name)) for name in entry_points()} == {
        name: int(name not in TIMM) for name in entry_points()
    }


REFUSED = [name for name in entry_points() if refusals(name)]


@pytest.mark.parametrize("name", quick(REFUSED, REFUSED[::5]))
def test_a_refused_architecture_is_no_function_of_a_config(name):
    with pytest.raises(Inexpressible):
        config_of(meta_model(name))


@pytest.mark.parametrize("name", PORTS)
def test_a_preset_of_a_repository_is_as_large_as_timm_s_port_of_it(name):
    config = PRESETS[name].config
    port = meta_model(PORTS[name], num_classes=0, img_size=config.image_hw)
    # With registers timm adds the class token's row of the table to it.
    class_row = config.dim * (config.num_registers > 0 and config.pos_embed == "learned")
    assert PRESETS[name].parameters == sum(parameter.numel() for parameter in port.parameters()) + class_row
    assert (config.num_heads, config.depth) == (port.blocks[0].attn.num_heads, len(port.blocks))
    assert config.act == ACTS[type(port.blocks[0].mlp.act).__name__]
    assert (config.norm_eps, config.mlp_dim) == (port.blocks[0].norm1.eps, port.blocks[0].mlp.fc2.in_features)


def test_every_preset_of_a_repository_has_a_port_or_is_a_fine_tuned_one():
    theirs = {name for name in PRESETS if name not in TIMM}
    tuned = {f"{name}_finetuned" for name in PORTS if name.startswith("mae_")}
    assert theirs == {*PORTS, *tuned, "dinov3_vitl16plus"}  # timm has no port of the last one


@pytest.mark.parametrize("name", CUT_OFF)
def test_an_architecture_that_cuts_pixels_off_is_another_at_the_size_that_is_left(name):
    def what(name):
        model = meta_model(name)
        kinds = [(n, type(module).__name__, getattr(module, "eps", None)) for n, module in model.named_modules()]
        return kinds, {n: tuple(tensor.shape) for n, tensor in model.state_dict().items()}, model.global_pool

    assert what(name) == what(CUT_OFF[name])


def test_its_image_size_is_asked_for(tmp_path):
    """timm's file says 384: the message names 378, and with that it opens."""
    name = "vit_so400m_patch14_siglip_384"
    saver(name, **SIZES | dict(img_size=24, patch_size=7))(tmp_path)
    with pytest.raises(CheckpointError, match=r"image size 24x24 is not divisible .*; the nearest that is: 21x21"):
        open_checkpoint(tmp_path)
    assert open_checkpoint(tmp_path, overrides={"image_size": 21}).config.pool == "map"


def test_every_preset_says_where_it_is_from():
    assert all(preset.source for preset in PRESETS.values())


def test_an_unknown_preset_names_its_neighbours():
    with pytest.raises(
        CheckpointError, match=r"unknown preset 'vit_base_patch16'; did you mean .*vit_base_patch16_224"
    ):
        get_preset("vit_base_patch16")


def small(name, monkeypatch):
    """The preset at a width and depth that a test can write."""
    config = PRESETS[name].config.replace(dim=24, num_heads=3, mlp_dim=40, depth=1, image_size=32, num_classes=3)
    monkeypatch.setitem(PRESETS, name, type(PRESETS[name])(config, "shrunk"))
    return config


def test_a_preset_answers_for_a_bare_file_but_for_its_head(tmp_path, monkeypatch):
    config = small("vit_tiny_patch16_224", monkeypatch).replace(num_classes=5)
    from parity_tests.strategies import random_tensors

    save_checkpoint(tmp_path / "full", config, random_tensors(config).items(), layout="timm")
    bare = (tmp_path / "full" / "model.safetensors").rename(tmp_path / "bare.safetensors")
    with pytest.raises(
        CheckpointError, match=r"nothing tells image_size, num_heads, .*--preset NAME \(of those below"
    ) as e:
        open_checkpoint(bare)
    assert "\n    vit_tiny_patch16_224" in str(e.value)
    found = open_checkpoint(bare, preset="vit_tiny_patch16_224")
    assert found.config == config
    assert found.sources["act"] == "preset vit_tiny_patch16_224"
    assert found.sources["num_classes"] == "names and shapes"
    again = open_checkpoint(bare, preset="vit_tiny_patch16_224", overrides={"act": "gelu_tanh"})
    assert (again.config.act, again.sources["act"]) == ("gelu_tanh", "given")


def test_a_file_that_several_presets_fit_is_asked_about_by_what_they_differ_in():
    """What DINO, MAE, DeiT and timm share: each function has one line, and no more than differs."""
    shapes = hub_shapes(PRESETS["dino_vitb16"].config)
    with pytest.raises(CheckpointError) as error:
        resolve("a.pth", shapes, Described(), None, {})
    question, _, presets = str(error.value).partition("\n  presets that fit:\n")
    assert "by --preset NAME (of those below), or by --set image_size" in question
    assert presets.splitlines() == [
        "    vit_base_patch16_224, deit_base_patch16_224: pos_resize bicubic_antialias",
        "    dino_vitb16: pos_resize bicubic_offset",
        "    mae_vit_base_patch16: pos_resize bicubic",
    ]


def test_timm_never_gets_the_name_of_another_repository_s_preset():
    from vit_convert.layouts.timm import architecture

    for name in ("mae_vit_base_patch16_finetuned", "dino_vits16", "dinov2_vitg14"):
        assert PRESETS[architecture(PRESETS[name].config)].origin == "timm"


def test_timm_s_config_names_the_preset_that_a_model_is():
    from vit_convert.layouts.timm import architecture

    for name in ("vit_so400m_patch14_siglip_224", "deit_tiny_distilled_patch16_224", "vit_large_patch14_clip_224"):
        assert architecture(PRESETS[name].config.replace(num_classes=7)) == name
    other = ViTConfig(image_size=4, patch_size=2, dim=24, depth=1, num_heads=3, mlp_dim=40)
    assert architecture(other) == "vit_base_patch16_224"
