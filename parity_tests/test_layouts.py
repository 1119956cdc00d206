"""Every layout: its table is a bijection, its files are those that the peer itself reads and writes, bit for bit."""

import itertools
import json
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from parity_tests import held
from parity_tests.compare import gap
from parity_tests.families import open_clip, originals, torchvision, transformers_4
from parity_tests.families import transformers as peers
from parity_tests.peers import float64_rotary_tables
from parity_tests.strategies import DTYPES, configs, preprocesses, random_tensors
from parity_tests.tolerances import FORWARD
from vit_convert.checkpoint import layout_shapes, open_checkpoint, save_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.files import open_tensors
from vit_convert.hub import hub_shapes
from vit_convert.layouts import LAYOUTS
from vit_convert.layouts.names import HUB
from vit_convert.preprocess import Preprocess
from vit_convert.roles import role
from vit_convert.rules import flip, right_shapes
from vit_convert.table import made, moves_of

just = st.just
# Configs that each layout can hold.
HELD: dict[str, st.SearchStrategy[ViTConfig]] = {
    "native": configs(),
    "flax": configs(),
}


@st.composite
def timm_configs(draw: st.DrawFn) -> ViTConfig:
    distilled, pre_norm, bias = draw(st.sampled_from([False] * 3 + [True])), draw(st.booleans()), draw(st.booleans())
    pool = "class_dist" if distilled else draw(st.sampled_from(["class", "mean", "map"]))
    coded = [] if distilled else [("layer", 1e-5), *([] if pool == "map" else [("rms", 1e-5)])]
    norm, eps = draw(st.sampled_from([("layer", 1e-6), ("rms", 1e-6), *coded]))
    aim = (norm, eps) == ("rms", 1e-5)
    gated = ["swiglu"] if aim else ["mlp"] if distilled or pool == "map" or eps != 1e-6 else ["mlp", "swiglu"]
    mlp = draw(st.sampled_from(gated))
    registers = 0 if distilled else draw(st.sampled_from([0, 10]))
    prefix = draw(st.sampled_from(["none", "all"] if registers else ["none", "class"]))
    fixed = {
        "pool": pool,
        "patch_norm": aim or (eps == 1e-6 and draw(st.booleans())),
        "dist_token": distilled,
        "pre_norm": pre_norm,
        "patch_bias": not pre_norm,
        "proj_bias": bias,
        "mlp_bias": bias,
        "norm": norm,
        "norm_eps": eps,
        "mlp": mlp,
        "num_registers": registers,
        "pos_prefix": "class" if distilled else prefix,
        "head_bias": True,
        "pre_logits": 0,
        "pos_embed": "learned" if distilled else draw(st.sampled_from(["learned", "none"])),
        "qkv_bias": draw(st.sampled_from(["all", "none"])),
        "rope": "none",
    }
    needs_class = {"class_token": just(True)} if pool in ("class", "class_dist") else {}
    return draw(configs(**{name: just(value) for name, value in fixed.items()}, **needs_class))


@st.composite
def eva_configs(draw: st.DrawFn) -> ViTConfig:
    pool, pre_norm = draw(st.sampled_from(["class", "mean", "map"])), draw(st.booleans())
    mlp = draw(st.sampled_from(["mlp"] if pool == "map" else ["mlp", "swiglu"]))
    registers = 0 if pool == "map" else draw(st.sampled_from([0, 10]))
    limits = {name: st.sampled_from(values) for name, values in LAYOUTS["timm:eva"].limits.items()}
    fixed = {
        "pool": pool,
        "class_token": pool == "class" or (pool == "mean" and draw(st.booleans())),
        "num_registers": registers,
        "pos_prefix": draw(st.sampled_from(["none", "all"] if registers else ["none", "class"])),
        "pre_norm": pre_norm,
        "patch_bias": not pre_norm,
        "mlp": mlp,
        "act": "gelu" if mlp == "mlp" else "silu",
        "rope_round_periods": "none",
    }
    return draw(configs(**{**limits, **{name: just(value) for name, value in fixed.items()}}))


HELD |= {"timm:vit": timm_configs(), "timm:eva": eva_configs(), **originals.HELD, **torchvision.HELD, **peers.HELD}
HELD |= {**open_clip.HELD, **transformers_4.HELD, **held.HELD}
# The one rule by which a library resizes positions, whatever a config says.
RESIZE = {"timm:vit": "bicubic_antialias", "timm:eva": "bicubic_antialias", **peers.RESIZE, **transformers_4.RESIZE}
RESIZE |= dict.fromkeys(open_clip.HELD, "bicubic_antialias")
layouts = pytest.mark.parametrize("layout", sorted(LAYOUTS))


@pytest.fixture(autouse=True, scope="module")
def _temporary_folders_go_away(tmp_path_factory):
    """Hypothesis runs a test many times in one tmp_path: each save makes a folder of its own, in pytest's."""
    tempfile.tempdir = str(tmp_path_factory.mktemp("layouts"))
    yield
    tempfile.tempdir = None


def save(config: ViTConfig, tensors: dict[str, np.ndarray], **options: Any) -> Path:
    path = Path(tempfile.mkdtemp()) / "checkpoint"
    save_checkpoint(path, config, tensors.items(), **options)
    return path


def assert_equal_bits(found, expected):
    found = dict(found)
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].flags.c_contiguous, name
        assert found[name].tobytes() == array.tobytes(), name


def test_every_layout_is_tested():
    assert set(HELD) == set(LAYOUTS)


@layouts
@settings(max_examples=10)
@given(data=st.data())
def test_a_table_is_a_bijection_between_its_names_and_the_hub_s(layout, data):
    config = data.draw(HELD[layout])
    table = LAYOUTS[layout]
    table.check(config)
    spares = {name: array.shape for name, array in made(table, config).items()}
    hub, moves = hub_shapes(config) | spares, moves_of(table, config, spares=spares)
    left, right = [n for m in moves for n in m.left.names], [n for m in moves for n in m.right.names]
    assert sorted(right) == sorted(hub)
    assert len(set(left)) == len(left)
    there = right_shapes(flip(moves), hub)
    assert right_shapes(moves, there) == hub
    assert sum(map(np.prod, there.values())) == sum(map(np.prod, hub.values()))


@layouts
@settings(max_examples=4)
@given(data=st.data())
def test_a_checkpoint_comes_back_bit_for_bit_with_its_config(layout, data):
    config, dtype = data.draw(HELD[layout]), data.draw(st.sampled_from(DTYPES))
    tensors = random_tensors(config, dtype=dtype)
    preprocess = data.draw(st.none() | preprocesses(config.in_channels, crop=config.image_hw))
    labels = tuple(f"name {i}" for i in range(config.num_classes)) or None
    path = save(config, tensors, layout=layout, labels=labels, preprocess=preprocess)
    found = open_checkpoint(path)
    assert found.config == config.replace(pos_resize=RESIZE.get(layout, config.pos_resize))
    assert found.layout == layout
    assert found.labels == labels
    assert found.preprocess == preprocess or layout.startswith(("timm:", "transformers", "open_clip:"))
    assert set(found.dtypes.values()) == {dtype}
    assert_equal_bits(found.tensors(), tensors)
    file = open_tensors(path / LAYOUTS[layout].weights_file)
    assert file.shapes == layout_shapes(LAYOUTS[layout], config)
    assert_equal_bits(found.tensors(layout), dict(file.stream(file.specs)))


@layouts
@settings(max_examples=3)
@given(data=st.data())
def test_what_a_layout_writes_it_may_replace(layout, data):
    config = data.draw(HELD[layout])
    crop = {"resize": config.image_hw, "crop": config.image_hw, "mode": "squash"}
    preprocess = Preprocess(**crop, mean=(0.5,) * config.in_channels, std=(0.5,) * config.in_channels)
    path = save(config, random_tensors(config), layout=layout, preprocess=preprocess)
    save_checkpoint(path, config, random_tensors(config).items(), layout=layout, preprocess=preprocess, overwrite=True)


@settings(max_examples=15)
@given(config=configs(), order=st.randoms(use_true_random=False))
def test_flax_tensors_are_saved_as_native_in_any_order(config, order):
    tensors = random_tensors(config)
    flax = list(open_checkpoint(save(config, tensors)).tensors("flax"))
    order.shuffle(flax)
    path = save(config, dict(flax), tensors_layout="flax")
    assert_equal_bits(open_checkpoint(path).tensors(), tensors)


@settings(max_examples=30)
@given(config=configs())
def test_flax_arrays_are_numpy_s_own_transposes(config):
    tensors = random_tensors(config)
    expected = {}
    for name, array in tensors.items():
        module, _, leaf = name.rpartition(".")
        if module == "patch_embed.proj" and leaf == "weight":
            expected["patch_embed.proj.kernel"] = array.transpose(2, 3, 1, 0)
        elif leaf == "weight" and array.ndim == 2:
            expected[f"{module}.kernel"] = array.T
        else:
            expected[f"{module}.scale" if leaf == "weight" else name] = array
    flax = open_checkpoint(save(config, tensors)).tensors("flax")
    assert_equal_bits(flax, {name: np.ascontiguousarray(array) for name, array in expected.items()})


HF = ViTConfig(
    image_size=(6, 9), patch_size=(2, 3), dim=24, depth=2, num_heads=3, mlp_dim=40, num_classes=5, pos_resize="bicubic"
)


def test_transformers_names_hold_the_rows_of_qkv():
    tensors = random_tensors(HF)
    theirs = safetensors.numpy.load_file(save(HF, tensors, layout="transformers") / "model.safetensors")
    for i in range(HF.depth):
        for leaf in ("weight", "bias"):
            rows = np.split(tensors[f"blocks.{i}.attn.qkv.{leaf}"], 3)
            for part, row in zip(("query", "key", "value"), rows, strict=True):
                assert np.array_equal(theirs[f"vit.encoder.layer.{i}.attention.attention.{part}.{leaf}"], row)


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


def test_a_rule_for_resizing_no_table_is_no_difference():
    for pos_embed in ("none", "sincos2d"):
        config = HF.replace(pos_embed=pos_embed)
        assert config == config.replace(pos_resize="bilinear")
    assert HF.replace(pos_resize="bilinear") != HF


@settings(max_examples=60)
@given(config=configs())
def test_every_name_has_a_role_and_a_place_in_the_list_of_names(config):
    for name in hub_shapes(config):
        assert role(name)
        assert re.sub(r"^blocks\.\d+", "blocks.{block}", name) in HUB


@pytest.mark.parametrize("options", [{"attn_layer": "diff"}, {"act_layer": "relu"}, {"pool_include_prefix": True}])
def test_options_of_timm_that_no_field_holds_are_refused(tmp_path, options):
    path = save(HF, random_tensors(HF), layout="timm")
    config = json.loads((path / "config.json").read_text())
    config["model_args"] |= options
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"these model_args are not read: {{'{next(iter(options))}'"):
        open_checkpoint(path)


def test_an_architecture_that_is_no_preset_is_asked_about():
    path = save(HF, random_tensors(HF), layout="timm")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"architecture": "vit_mystery"}))
    with pytest.raises(
        CheckpointError, match=r"num_heads, .*\(architecture 'vit_mystery' of config.json is not a preset"
    ):
        open_checkpoint(path)


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


def test_a_model_of_timm_s_that_is_no_vit_is_refused_by_its_architecture(tmp_path):
    import timm

    timm.models.save_for_hf(timm.create_model("test_resnet"), str(tmp_path), safe_serialization=True)
    with pytest.raises(CheckpointError, match=r"architecture 'test_resnet' of config.json is not a preset, nor"):
        open_checkpoint(tmp_path)
