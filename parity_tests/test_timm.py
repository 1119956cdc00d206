"""timm builds and loads what is written for it, and what timm writes is read, bit for bit, or refused by name."""

import itertools
import json
import warnings
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parity_tests.compare import gap
from parity_tests.held_timm import HELD
from parity_tests.layout_files import HF, assert_equal_bits, save, temporary_folders_in
from parity_tests.peers import float64_rotary_tables
from parity_tests.strategies import random_tensors
from parity_tests.tolerances import FORWARD
from vit_convert.checkpoint import open_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.layouts import LAYOUTS


@pytest.fixture(autouse=True, scope="module")
def _temporary_folders_go_away(tmp_path_factory):
    with temporary_folders_in(tmp_path_factory.mktemp("layouts")):
        yield


def test_timm_packs_the_keys_and_values_of_the_attention_pool():
    config = ViTConfig(image_size=4, patch_size=2, dim=24, depth=1, num_heads=3, mlp_dim=40, pool="map")
    tensors = random_tensors(config)
    theirs = safetensors.numpy.load_file(save(config, tensors, layout="timm") / "model.safetensors")
    packed = [tensors["attn_pool.k.weight"], tensors["attn_pool.v.weight"]]
    assert np.array_equal(theirs["attn_pool.kv.weight"], np.concatenate(packed))
    assert "attn_pool.k.weight" not in theirs


def test_the_mlp_ratio_for_timm_truncates_to_the_width_that_it_came_from():
    pairs = itertools.product(range(8, 400, 4), range(1, 900))
    tricky = [(dim, mlp_dim) for dim, mlp_dim in pairs if int(dim * (mlp_dim / dim)) != mlp_dim]
    assert len(tricky) > 100
    for dim, mlp_dim in tricky[::50]:
        config = HF.replace(dim=dim, num_heads=1, mlp_dim=mlp_dim)
        args = LAYOUTS["timm:vit"].write(config, None, None).files["config.json"]["model_args"]
        assert int(dim * args["mlp_ratio"]) == mlp_dim


def timm_model(path, **options):
    import timm

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        model = timm.create_model(f"local-dir:{path}", pretrained=True, **options)
    assert not heard, [str(w.message) for w in heard]
    return model.eval()


@pytest.mark.parametrize("layout", ["timm:vit", "timm:eva"])
@settings(max_examples=20)
@given(data=st.data())
def test_timm_makes_and_loads_what_is_written_for_it(layout, data):
    """The model that timm builds from config.json alone is this function: same output as vit_torch in float64."""
    import vit_torch

    config = data.draw(HELD[layout])
    path = save(config, random_tensors(config, dtype=np.float64), layout=layout)
    ours = vit_torch.ViT.from_pretrained(path).eval()
    images = torch.tensor(np.random.default_rng(0).standard_normal((2, config.in_channels, *config.image_hw)))
    with torch.no_grad(), float64_rotary_tables():
        expected, found = timm_model(path, dtype=torch.float64)(images), ours(images)
    assert gap(found, expected) <= FORWARD


@pytest.mark.parametrize("layout", ["timm:vit", "timm:eva"])
@settings(max_examples=10)
@given(data=st.data())
def test_timm_s_own_loading_gives_the_bits_that_were_written(layout, data):
    config = data.draw(HELD[layout])
    path = save(config, random_tensors(config), layout=layout)
    state = {name: tensor.numpy() for name, tensor in timm_model(path).state_dict().items()}
    assert_equal_bits(state.items(), safetensors.numpy.load_file(path / "model.safetensors"))


SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 3, "img_size": (6, 9), "patch_size": (2, 3), "num_classes": 5}
GAP = {"global_pool": "avg", "reg_tokens": 2, "init_values": 1e-5}
READ = ViTConfig(image_size=(6, 9), patch_size=(2, 3), dim=24, depth=2, num_heads=3, mlp_dim=96, num_classes=5)
GAP_READ = READ.replace(num_registers=2, layer_scale=True, pool="mean", final_norm="pooled")
CLIP_READ = READ.replace(norm_eps=1e-5, pre_norm=True, patch_bias=False)
# architecture, options -> the config that timm's code and these options mean
TIMM_OWN = [
    ("vit_tiny_patch16_224", {}, READ),
    ("vit_tiny_patch16_224", GAP, GAP_READ.replace(pos_prefix="all")),
    ("vit_tiny_patch16_224", GAP | {"no_embed_class": True}, GAP_READ.replace(pos_prefix="none")),
    ("vit_tiny_patch16_224", GAP | {"fc_norm": False}, GAP_READ.replace(pos_prefix="all", final_norm="tokens")),
    ("vit_tiny_patch16_224", {"norm_layer": "rmsnorm", "act_layer": "silu"}, READ.replace(norm="rms", act="silu")),
    (
        "vit_tiny_patch16_224",
        {"final_norm": False, "qkv_bias": False},
        READ.replace(final_norm="none", qkv_bias="none"),
    ),
    ("vit_base_patch16_clip_quickgelu_224", {}, CLIP_READ.replace(act="quick_gelu")),
    ("vit_base_patch16_clip_224", {"pre_norm": False}, CLIP_READ.replace(pre_norm=False, patch_bias=True)),
    ("vit_base_patch16_siglip_224", {}, READ.replace(class_token=False, pool="map")),
    ("deit3_small_patch16_224", {}, READ.replace(pos_prefix="none", layer_scale=True)),
    ("deit_tiny_distilled_patch16_224", {}, READ.replace(dist_token=True, pool="class_dist")),
    (
        "vit_giant_patch14_dinov2",
        {"mlp_ratio": 4},
        READ.replace(mlp="swiglu", mlp_dim=48, act="silu", layer_scale=True),
    ),
]


@pytest.mark.parametrize(("name", "options", "expected"), TIMM_OWN)
def test_timm_s_own_files_are_recognised_and_read(tmp_path, name, options, expected):
    import timm
    from timm.models import save_for_hf

    model = timm.create_model(name, **SMALL, **options)
    save_for_hf(model, tmp_path, safe_serialization=True)
    found = open_checkpoint(tmp_path)
    assert found.layout == "timm:vit"
    assert found.config == expected
    assert_equal_bits(found.tensors("timm"), {name: tensor.numpy() for name, tensor in model.state_dict().items()})


# Architectures without class token, registers or a table: whether their code has no_embed_class, only timm knows.
OTHER_TOKENS = [
    ("vit_medium_patch16_gap_240", {"reg_tokens": 2}, "all"),
    ("vit_base_patch16_siglip_224", {"reg_tokens": 2}, "all"),
    ("vit_base_patch16_siglip_gap_224", {"class_token": True, "global_pool": "token"}, "class"),
    ("vit_base_patch16_siglip_gap_224", {"class_token": True, "reg_tokens": 2}, "all"),
    ("deit3_small_patch16_224", {"reg_tokens": 2}, "none"),
    ("vit_small_patch14_reg4_dinov2", {"class_token": False, "global_pool": "avg"}, "none"),
    ("vit_small_patch16_dinov3", {"use_abs_pos_emb": True}, "all"),
    ("vit_small_patch16_dinov3", {"use_abs_pos_emb": True, "no_embed_class": True}, "none"),
    ("vit_medium_patch16_rope_reg1_gap_256", {"use_abs_pos_emb": True, "class_token": True}, "all"),
    ("eva_giant_patch14_224", {"num_reg_tokens": 2}, "all"),
]


@pytest.mark.parametrize(("name", "options", "pos_prefix"), OTHER_TOKENS)
def test_tokens_that_an_architecture_lacks_have_the_rows_of_positions_that_timm_gives_them(
    tmp_path, name, options, pos_prefix
):
    import timm
    from timm.models import save_for_hf

    import vit_torch

    sizes = SMALL | {"img_size": (8, 12), "embed_dim": 32, "num_heads": 2}
    torch.manual_seed(0)
    theirs = timm.create_model(name, **sizes, **options).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.3)
    save_for_hf(theirs, tmp_path, safe_serialization=True)
    assert open_checkpoint(tmp_path).config.pos_prefix == pos_prefix
    ours = vit_torch.ViT.from_pretrained(tmp_path).double().eval()
    images = torch.tensor(np.random.default_rng(0).standard_normal((2, 3, 8, 12)))
    with torch.no_grad(), float64_rotary_tables():
        expected = timm_model(tmp_path, dtype=torch.float64)(images)
        assert gap(ours(images), expected) <= FORWARD


def test_a_config_of_timm_s_in_its_older_form_says_the_same(tmp_path):
    """Without `pretrained_cfg`: its entries stand beside the architecture, as in the first files of timm's hub."""
    import timm
    from timm.models import save_for_hf

    name = "vit_base_patch16_224"
    save_for_hf(timm.create_model(name, num_classes=2, depth=1), tmp_path, safe_serialization=True)
    entries = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(entries | {"label_names": ["a", "b"], "model_args": {"depth": 1}}))
    now = open_checkpoint(tmp_path)
    older = {**entries["pretrained_cfg"], "architecture": name, "num_classes": 2, "labels": ["a", "b"]}
    (tmp_path / "config.json").write_text(json.dumps(older))
    timm.create_model(f"local-dir:{tmp_path}", pretrained=True, depth=1)  # timm reads it
    then = open_checkpoint(tmp_path, overrides={"depth": 1})
    assert (then.config, then.preprocess, then.labels) == (now.config, now.preprocess, ("a", "b"))
    assert then.preprocess is not None


# What model_args, config.json itself and pretrained_cfg say -> the field of the model that timm builds.
LEFT_TO_PRETRAINED_CFG = [
    ({}, {}, {"num_classes": 3}, {"num_classes": 3}),
    ({}, {"num_classes": 3}, {"num_classes": 7}, {"num_classes": 3}),
    ({"num_classes": 3}, {}, {"num_classes": 7}, {"num_classes": 3}),
    ({}, {}, {"num_classes": 0}, {"num_classes": 0}),
    ({}, {}, {"num_classes": -1}, {"num_classes": 1000}),
    ({}, {}, {"input_size": [1, 224, 224]}, {"in_channels": 1}),
    ({"in_chans": 1}, {}, {"input_size": [3, 224, 224]}, {"in_channels": 1}),
]


@pytest.mark.parametrize(("args", "top", "pretrained", "expected"), LEFT_TO_PRETRAINED_CFG)
def test_classes_and_channels_are_those_of_timm_s_pretrained_cfg_where_nothing_else_says_them(
    tmp_path, args, top, pretrained, expected
):
    import timm
    from timm.models import save_for_hf

    import vit_torch

    made = {"depth": 1, "num_classes": expected.get("num_classes", 2), "in_chans": expected.get("in_channels", 3)}
    torch.manual_seed(0)
    theirs: Any = timm.create_model("vit_tiny_patch16_224", **made).eval()
    if made["num_classes"]:
        torch.nn.init.normal_(theirs.head.weight)
    save_for_hf(theirs, tmp_path, safe_serialization=True)
    entries = json.loads((tmp_path / "config.json").read_text())
    del entries["num_classes"]
    entries |= top | {"model_args": {"depth": 1, **args}}
    entries["pretrained_cfg"] |= pretrained
    (tmp_path / "config.json").write_text(json.dumps(entries))
    config = open_checkpoint(tmp_path).config
    assert {name: getattr(config, name) for name in expected} == expected
    ours = vit_torch.ViT.from_pretrained(tmp_path).double().eval()
    images = torch.tensor(np.random.default_rng(0).standard_normal((2, config.in_channels, 224, 224)))
    built = timm_model(tmp_path, dtype=torch.float64)
    built.load_state_dict(theirs.state_dict())  # it draws a new head where two numbers of classes are said
    with torch.no_grad():
        assert gap(ours(images), built(images)) <= FORWARD


def labelled(folder, **labels: Any) -> Any:
    """timm's directory of a model with three classes, whose pretrained_cfg holds these entries; as timm loads it."""
    import timm
    from timm.models import save_for_hf

    save_for_hf(timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=3), folder, safe_serialization=True)
    entries = json.loads((folder / "config.json").read_text())
    entries["pretrained_cfg"] |= labels
    (folder / "config.json").write_text(json.dumps(entries))
    return timm_model(folder)


def test_labels_of_timm_s_that_do_not_fit_the_head_are_left_out_and_named(tmp_path):
    """A fine-tuned model's pretrained_cfg may still hold its source's: timm loads it all the same."""
    theirs = labelled(tmp_path, label_names=["a", "b", "c", "d", "e"])
    found = open_checkpoint(tmp_path)
    assert found.labels is None
    assert "left out 5 labels: the head has 3 classes" in found.said
    weights = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    assert_equal_bits(found.tensors("timm"), weights)
    assert open_checkpoint(tmp_path, num_classes=5).labels is None  # another head: no one's labels


def test_labels_of_timm_s_may_be_an_object_by_index(tmp_path):
    labelled(tmp_path, label_names={"2": "c", "0": "a", "1": "b"})
    found = open_checkpoint(tmp_path)
    assert (found.labels, found.said) == (("a", "b", "c"), ())


@pytest.mark.parametrize("names", [{"0": "a", "2": "b", "5": "c"}, {"a": 0, "b": 1, "c": 2}, "abc"], ids=str)
def test_labels_of_timm_s_that_are_not_by_index_are_left_out_and_named(tmp_path, names):
    labelled(tmp_path, label_names=names)
    found = open_checkpoint(tmp_path)
    assert found.labels is None
    assert found.said == (
        "left out label_names of config.json: expected a list, or an object with the keys 0 to n - 1",
    )


@pytest.mark.parametrize("free", [{}, {"dynamic_img_size": False}, {"dynamic_img_size": True}], ids=str)
@pytest.mark.parametrize("sized", [{}, {"img_size": 64}], ids=str)
def test_the_image_size_is_the_one_that_timm_builds_the_model_for(tmp_path, free, sized):
    """Where any size may come, `input_size` is that of the images, not of the position table."""
    import timm
    from timm.models import save_for_hf

    name, options = "vit_base_patch16_224", {"depth": 1, "embed_dim": 24, "num_heads": 2, **free, **sized}
    save_for_hf(timm.create_model(name, num_classes=2, **options), tmp_path, safe_serialization=True)
    entries = json.loads((tmp_path / "config.json").read_text())
    entries["model_args"] = options
    entries["pretrained_cfg"] |= {
        "fixed_input_size": True,
        "input_size": [3, 96, 96] if any(free.values()) else [3, 224, 224],
    }
    (tmp_path / "config.json").write_text(json.dumps(entries))
    theirs: Any = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert open_checkpoint(tmp_path).config.image_size == tuple(theirs.patch_embed.img_size)


def prepared_by_another_entry(path, options, **entries):
    """A file as older versions of timm left it, whose input_size isn't that of the model; and timm's model of it."""
    import timm
    from timm.models import save_for_hf

    small = {"depth": 1, "embed_dim": 24, "num_heads": 2}
    save_for_hf(timm.create_model("vit_base_patch16_224", num_classes=2, **small, **options), path)
    config = json.loads((path / "config.json").read_text())
    config["model_args"] = small | options
    config["pretrained_cfg"] |= {"input_size": [3, 224, 224], "fixed_input_size": True, **entries}
    (path / "config.json").write_text(json.dumps(config))
    return timm.create_model(f"local-dir:{path}", pretrained=True)


@pytest.mark.parametrize(
    ("options", "entries"),
    [
        ({"img_size": 96}, {}),
        ({"img_size": (96, 64)}, {"crop_pct": 0.875}),
        ({"img_size": 96, "dynamic_img_size": True}, {}),
        ({"in_chans": 1}, {"mean": [0.4], "std": [0.2]}),
    ],
    ids=str,
)
def test_images_are_prepared_for_the_size_and_channels_that_timm_builds_the_model_for(tmp_path, options, entries):
    from timm.data.config import resolve_model_data_config

    theirs: Any = resolve_model_data_config(prepared_by_another_entry(tmp_path, options, **entries))
    found = open_checkpoint(tmp_path).preprocess
    assert found is not None
    assert (len(found.mean), *found.crop) == tuple(theirs["input_size"])
    assert found.resize == tuple(int(side / theirs["crop_pct"]) for side in found.crop)
    assert (found.mean, found.std) == (tuple(theirs["mean"]), tuple(theirs["std"]))


def test_statistics_of_other_channels_than_the_model_s_stay_unread_and_that_is_said(tmp_path):
    prepared_by_another_entry(tmp_path, {"in_chans": 1}, mean=[0.5] * 3, std=[0.5] * 3)
    found = open_checkpoint(tmp_path)
    assert (found.config.in_channels, found.preprocess) == (1, None)
    assert "how images are prepared stays unknown: config.json's pretrained_cfg says it" in found.said[-1]


def test_timm_takes_no_image_size_from_a_model_that_is_not_strict_about_it(tmp_path):
    """None of the classes that are read has the option today, so that nothing can be built with it."""
    from timm.models._hub import _parse_model_cfg

    pretrained = {"fixed_input_size": True, "input_size": [3, 96, 96]}
    entries = {"architecture": "vit_base_patch16_224", "model_args": {"strict_img_size": False}}
    entries |= {"pretrained_cfg": pretrained}
    assert LAYOUTS["timm:vit"].read(entries, {}.get).fields["image_size"] == (224, 224)
    assert _parse_model_cfg(entries, {})[0]["fixed_input_size"] is False


def test_a_file_of_timm_s_without_any_fc1_is_asked_for_its_width():
    path = save(READ, random_tensors(READ), layout="timm")
    config = json.loads((path / "config.json").read_text())
    del config["model_args"]["mlp_ratio"]
    (path / "config.json").write_text(json.dumps(config))
    tensors = safetensors.numpy.load_file(path / "model.safetensors")
    rest = {name: array for name, array in tensors.items() if ".fc1." not in name}
    safetensors.numpy.save_file(rest, path / "model.safetensors")
    with pytest.raises(CheckpointError, match="nothing tells mlp_dim"):
        open_checkpoint(path)


def test_a_norm_behind_the_class_token_is_refused_by_name_not_by_its_tensors(tmp_path):
    import timm
    from timm.models import save_for_hf

    model = timm.create_model("vit_tiny_patch16_224", **SMALL, fc_norm=True, global_pool="token")
    save_for_hf(model, tmp_path, safe_serialization=True)
    with pytest.raises(CheckpointError, match=r"fc_norm instead of norm, which is not read with pool='class'"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("options", [{"attn_layer": "diff"}, {"act_layer": "relu"}, {"pool_include_prefix": True}])
def test_options_of_timm_that_no_field_holds_are_refused(tmp_path, options):
    path = save(HF, random_tensors(HF), layout="timm")
    config = json.loads((path / "config.json").read_text())
    config["model_args"] |= options
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"these model_args are not read: {{'{next(iter(options))}'"):
        open_checkpoint(path)


AIM: dict[str, Any] = {"embed_dim": 32, "depth": 1, "num_heads": 2, "img_size": 28, "num_classes": 3}


@pytest.mark.parametrize("norm", ["rmsnorm", "layernorm"])
def test_norms_unlike_that_of_the_patches_are_refused(tmp_path, norm):
    """timm makes norms of a name with eps 1e-6, and AIMv2's code has 1e-5 for the patches': no one eps is both."""
    import timm
    from timm.models import save_for_hf

    theirs: Any = timm.create_model("aimv2_large_patch14_224", **AIM, norm_layer=norm)
    assert (theirs.patch_embed.norm.eps, theirs.blocks[0].norm1.eps) == (1e-5, 1e-6)
    save_for_hf(theirs, tmp_path, safe_serialization=True)
    with pytest.raises(
        CheckpointError, match=rf"norm_layer '{norm}' makes norms of eps 1e-06, but that of the patches"
    ):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("norms", "eps"), [({}, 1e-5), ({"norm_layer": "rmsnorm", "embed_norm_layer": "rmsnorm"}, 1e-6)]
)
def test_norms_like_that_of_the_patches_have_the_eps_that_timm_gives_them(tmp_path, norms, eps):
    import timm
    from timm.models import save_for_hf

    import vit_torch

    torch.manual_seed(0)
    theirs: Any = timm.create_model("aimv2_large_patch14_224", **AIM, **norms).double().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.01)  # small enough for the eps to matter
    save_for_hf(theirs, tmp_path, safe_serialization=True)
    assert open_checkpoint(tmp_path).config.norm_eps == eps
    ours = vit_torch.ViT.from_pretrained(tmp_path).eval()
    images = torch.tensor(np.random.default_rng(0).standard_normal((2, 3, 28, 28)))
    with torch.no_grad():
        assert gap(ours(images), theirs(images)) <= FORWARD


def test_an_architecture_that_is_no_preset_is_asked_about():
    path = save(HF, random_tensors(HF), layout="timm")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"architecture": "vit_mystery"}))
    with pytest.raises(
        CheckpointError, match=r"num_heads, .*\(architecture 'vit_mystery' of config.json is not a preset"
    ):
        open_checkpoint(path)


def test_a_model_of_timm_s_that_is_no_vit_is_refused_by_its_architecture(tmp_path):
    import timm

    timm.models.save_for_hf(timm.create_model("test_resnet"), str(tmp_path), safe_serialization=True)
    with pytest.raises(CheckpointError, match=r"architecture 'test_resnet' of config.json is not a preset, nor"):
        open_checkpoint(tmp_path)
