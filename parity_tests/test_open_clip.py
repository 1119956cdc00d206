"""Every config that open_clip brings is read as the visual tower that open_clip builds of it, or is no ViT."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parity_tests.peers import import_torchvision
from parity_tests.selection import quick
from parity_tests.strategies import random_tensors
from parity_tests.timm_configs import ACTS
from vit_convert.checkpoint import layout_shapes, open_checkpoint, save_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.layouts import LIBRARIES
from vit_convert.layouts.base import Layout
from vit_convert.layouts.refused import REFUSALS
from vit_convert.presets import PRESETS
from vit_convert.resolve import resolve
from vit_convert.rules import infer

import_torchvision()
import open_clip  # noqa: E402
from open_clip.model import CLIPVisionCfg, _build_vision_tower  # noqa: E402

# Towers that are no ViT, or one that is refused: the beginnings of their names in timm.
OTHERS = ("convnext_", "swin_", "vitamin_", "fastvit_", "vit_base_mci_", "vit_relpos_", "vit_pe_", "eva02_enormous_")
CUT_OFF = "vit_so400m_patch14_siglip_384"  # an image that patches don't divide


def bundled() -> dict[str, dict[str, Any]]:
    """One config of each visual tower: what differs beside it is the text tower."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for path in sorted((Path(open_clip.__file__).parent / "model_configs").glob("*.json")):
        config = json.loads(path.read_text())
        tower = json.dumps([config["embed_dim"], config["vision_cfg"], config.get("quick_gelu")], sort_keys=True)
        found.setdefault(tower, (path.stem, config))
    return dict(found.values())


BUNDLED = bundled()


def is_vit(config: dict[str, Any]) -> bool:
    vision = config["vision_cfg"]
    name = vision.get("timm_model_name", "")
    attends = vision.get("attentional_pool") or not isinstance(vision.get("layers", 0), int)
    return not name.startswith(OTHERS) and not attends


VITS = {name: config for name, config in BUNDLED.items() if is_vit(config)}
WHOLE = [name for name, config in VITS.items() if config["vision_cfg"].get("timm_model_name") != CUT_OFF]


def build(config: dict[str, Any]) -> Any:
    with torch.device("meta"):
        vision = CLIPVisionCfg(**{**config["vision_cfg"], "timm_model_pretrained": False})
        return _build_vision_tower(config["embed_dim"], vision, config.get("quick_gelu", False))


def read(model_cfg: dict[str, Any], shapes: dict[str, Any]) -> tuple[Layout, ViTConfig]:
    config = {"model_cfg": model_cfg}
    (layout,) = [layout for layout in LIBRARIES["open_clip"] if layout.owns(config)]
    spelled = layout.recognise(shapes)
    assert spelled is not None
    hub, unplaced = infer(layout.rules, spelled, shapes)
    assert not unplaced
    return layout, resolve("open_clip", hub, layout.read(config, lambda name: None), None, {})[0]


@pytest.mark.parametrize("name", quick(WHOLE, WHOLE[::3]))
def test_a_bundled_config_is_read_as_the_tower_that_open_clip_builds(name):
    tower = build(VITS[name])
    shapes = {f"visual.{name}": tuple(tensor.shape) for name, tensor in tower.state_dict().items()}
    layout, config = read(VITS[name], shapes)
    assert layout_shapes(layout, config) == shapes
    block = tower.trunk.blocks[0] if hasattr(tower, "trunk") else tower.transformer.resblocks[0]
    norm = block.norm1 if hasattr(tower, "trunk") else block.ln_1
    act = block.mlp.act if hasattr(tower, "trunk") else block.mlp.gelu
    tanh = getattr(act, "approximate", "none") == "tanh"
    assert config.num_heads == block.attn.num_heads
    assert config.norm_eps == norm.eps
    assert config.act == ("gelu_tanh" if tanh else ACTS[type(act).__name__])
    assert config.pool == {"tok": "class", "token": "class", "avg": "mean", "map": "map"}[pool_of(tower)]
    assert config.image_hw == tuple(tower.image_size)


@pytest.mark.parametrize(("projection", "norm"), [(None, "pooled"), ("linear", "tokens")])
def test_the_norm_of_timm_s_tower_follows_the_pooling_only_where_timm_makes_it_so(projection, norm):
    vision = {"timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": projection, "image_size": 160}
    config = {"embed_dim": 11, "vision_cfg": vision}
    shapes = {f"visual.{name}": tuple(tensor.shape) for name, tensor in build(config).state_dict().items()}
    _, found = read(config, shapes)
    assert (found.pool, found.final_norm) == ("mean", norm)


@pytest.mark.parametrize("projection", [None, "linear", "none"])
def test_a_pooling_of_null_is_the_architecture_s_own(projection):
    vision = {"timm_model_name": "test_vit", "timm_pool": None, "timm_proj": projection, "image_size": 160}
    config = {"embed_dim": 11, "vision_cfg": vision}
    tower = build(config)
    _, found = read(config, {f"visual.{name}": tuple(tensor.shape) for name, tensor in tower.state_dict().items()})
    assert (pool_of(tower), found.pool) == ("token", "class")


def pool_of(tower: Any) -> str:
    return tower.trunk.global_pool if hasattr(tower, "trunk") else tower.pool_type


@pytest.mark.parametrize("name", quick(OTHER := [name for name in BUNDLED if name not in VITS], OTHER[::12]))
def test_no_other_tower_is_taken_for_a_vit(name):
    config = {"model_cfg": BUNDLED[name]}
    owners = [layout for layout in LIBRARIES["open_clip"] if layout.owns(config)]
    names = {f"visual.{name}" for name in build(BUNDLED[name]).state_dict()}
    refused = [refusal.what for refusal in REFUSALS if refusal.covers(names, "", "")]
    assert not owners or refused == ["a CoCa or another CLIP with attentional pooling"]


def test_an_image_that_patches_don_t_divide_is_asked_about():
    (name,) = [name for name, config in BUNDLED.items() if config["vision_cfg"].get("timm_model_name") == CUT_OFF]
    shapes = {f"visual.{name}": tuple(tensor.shape) for name, tensor in build(BUNDLED[name]).state_dict().items()}
    with pytest.raises(CheckpointError, match=r"image size 384x384 is not divisible .*the nearest that is: 378x378"):
        read(BUNDLED[name], shapes)


def test_openai_s_names_without_a_config_are_asked_about_and_a_preset_answers(tmp_path):
    """Only the options of open_clip_config.json tell heads and activation; the text tower stands aside, said aloud."""
    config = PRESETS["vit_base_patch32_clip_quickgelu_224"].config.replace(depth=1, num_classes=14, head_bias=False)
    save_checkpoint(tmp_path / "clip", config, random_tensors(config).items(), layout="open_clip")
    file = dict(open_checkpoint(tmp_path / "clip").tensors("open_clip"))
    text = {
        "token_embedding.weight": np.zeros((5, 8)),
        "text_projection": np.zeros((8, 14)),
        "logit_scale": np.ones(()),
    }
    torch.save({name: torch.tensor(array) for name, array in {**file, **text}.items()}, tmp_path / "clip.pt")
    with pytest.raises(CheckpointError, match=r"nothing tells image_size, num_heads, norm_eps, act, pool .*OpenAI's"):
        open_checkpoint(tmp_path / "clip.pt")
    found = open_checkpoint(tmp_path / "clip.pt", preset="vit_base_patch32_clip_quickgelu_224", overrides={"depth": 1})
    assert found.config == config
    assert any(said.startswith("left out the text tower: token_embedding.weight, text_proj") for said in found.said)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale_fc": True}, r"these options of vision_cfg are not read: {'scale_fc': True}"),
        ({"pool_type": "none"}, r"these options of vision_cfg are not read: {'pool_type': 'none'}"),
        ({"timm_model_name": "test_vit", "timm_proj": "mlp"}, r"timm_pool 'avg' with timm_proj 'mlp' is not read"),
        (
            {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "none"},
            r"timm_pool '' with timm_proj 'none' is not read",
        ),
    ],
)
def test_options_that_no_field_holds_are_refused(options, message):
    config = {"model_cfg": {"embed_dim": 11, "vision_cfg": {"layers": 2, **options}}}
    (layout,) = [layout for layout in LIBRARIES["open_clip"] if layout.owns(config)]
    with pytest.raises(CheckpointError, match=message):
        layout.read(config, lambda name: None)
