"""transformers' classes load what is written for them, and what they write in every form of names is read."""

import json
import tempfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

import vit_torch
from parity_tests.compare import gap
from parity_tests.families.transformers import HEAD, HELD, READ, RESIZE, ROWS, SIZES, Row, maker
from parity_tests.pairs import run_torch
from parity_tests.real.transformers import answer
from parity_tests.strategies import random_tensors
from parity_tests.tolerances import FORWARD
from vit_convert.checkpoint import open_checkpoint, save_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.layouts.transformers import TRANSFORMERS

ASKED = ("image_size", "num_heads", "norm_eps", "act", "rope_theta")
layouts = pytest.mark.parametrize("layout", [layout.name for layout in TRANSFORMERS])
rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


@pytest.fixture(autouse=True, scope="module")
def _temporary_folders_go_away(tmp_path_factory):
    """Hypothesis runs a test many times in one tmp_path: each save makes a folder of its own, in pytest's."""
    tempfile.tempdir = str(tmp_path_factory.mktemp("transformers"))
    yield
    tempfile.tempdir = None


def write(config: ViTConfig, layout: str, dtype: Any = np.float32, **options: Any) -> Path:
    path = Path(tempfile.mkdtemp()) / "checkpoint"
    save_checkpoint(path, config, random_tensors(config, dtype=dtype).items(), layout=layout, **options)
    return path


def auto_model(path: Path) -> Any:
    """What the Auto classes make of a directory, once they have found every tensor and no other."""
    said = json.loads((path / "config.json").read_text())
    name = said["architectures"][0]
    auto: Any = transformers.AutoModel
    if "ForImageClassification" in name:
        auto = transformers.AutoModelForImageClassification
    if name.endswith("WithProjection"):
        auto = transformers.CLIPVisionModelWithProjection
    pooling = name in ("ViTModel", "DeiTModel") and "pooler_output_size" not in said
    options = {"add_pooling_layer": False} if pooling else {}
    model, report = auto.from_pretrained(path, output_loading_info=True, dtype="auto", **options)
    assert type(model).__name__ == name
    assert not any(report.values()), report
    return model


def contents(path: Path, **given: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A checkpoint's config, and its tensors' bits."""
    found = open_checkpoint(path, overrides=given)
    return found.config.to_dict(), {name: array.tobytes() for name, array in found.tensors()}


@layouts
@settings(max_examples=6)
@given(data=st.data())
def test_the_auto_classes_make_the_same_function_of_what_is_written(layout, data):
    config = data.draw(HELD[layout])
    path = write(config, layout, np.float64)
    images = np.random.default_rng(0).standard_normal((2, *config.image_hw, config.in_channels))
    ours = run_torch(vit_torch.ViT.from_pretrained(path).eval(), images)["output"]
    assert gap(ours, answer(auto_model(path))(images)) < FORWARD


@layouts
@settings(max_examples=4)
@given(data=st.data(), dtype=st.sampled_from([np.float32, ml_dtypes.bfloat16]))
def test_transformers_saves_again_what_was_written_for_it(layout, data, dtype):
    config = data.draw(HELD[layout])
    path, again = write(config, layout, dtype), Path(tempfile.mkdtemp())
    auto_model(path).save_pretrained(again)
    assert open_checkpoint(again).layout == layout
    assert open_checkpoint(again).config == config.replace(pos_resize=RESIZE[layout])
    assert contents(again) == contents(path)


@pytest.mark.parametrize("layout", TRANSFORMERS, ids=lambda layout: layout.name)
def test_defaults_that_are_not_on_disk_are_known(layout):
    """What a config.json leaves out is read as what the class itself writes for it."""
    model_type = layout.name.removeprefix("transformers:")
    whole = json.loads(transformers.AutoConfig.for_model(model_type).to_json_string(use_diff=False))
    assert set(layout.read(whole, no_file).sources.values()) == {"transformers' code"}
    assert layout.read({"model_type": model_type}, no_file).fields == layout.read(whole, no_file).fields


def no_file(name: str) -> None:
    """No JSON file beside the weights."""


def test_vit_s_own_files_are_read_with_their_labels_and_sources(tmp_path):
    labels = {0: "cat", 1: "dog", 2: "fox", 3: "owl", 4: "bat"}
    more = {"image_size": [6, 9], "patch_size": [2, 3], "num_channels": 1, "id2label": labels}
    sizes: Any = SIZES | more
    theirs = transformers.ViTConfig(**sizes, hidden_act="gelu_new")
    transformers.ViTForImageClassification(theirs).save_pretrained(tmp_path)
    found = open_checkpoint(tmp_path)
    assert (found.config.image_hw, found.config.patch_hw) == ((6, 9), (2, 3))
    assert (found.config.act, found.labels) == ("gelu_tanh", ("cat", "dog", "fox", "owl", "bat"))
    assert (found.sources["norm_eps"], found.sources["pool"]) == ("config.json", "transformers' code")


def test_labels_of_a_vit_that_are_not_by_index_are_left_out_and_named(tmp_path):
    labels = {0: "cat", 1: "dog", 2: "fox"}
    sizes: Any = SIZES
    theirs = transformers.ViTConfig(**sizes, id2label=labels)
    transformers.ViTForImageClassification(theirs).save_pretrained(tmp_path)
    assert open_checkpoint(tmp_path).labels == ("cat", "dog", "fox")
    config = json.loads((tmp_path / "config.json").read_text())
    del config["id2label"]["0"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = open_checkpoint(tmp_path)
    assert found.labels is None
    assert "left out id2label of config.json: expected the keys 0 to n - 1, got 1, 2" in found.said


@rows
def test_names_of_transformers_5_in_memory_are_read_too(row, tmp_path):
    model = row.make()
    model.save_pretrained(tmp_path / "disk")
    model.save_pretrained(tmp_path / "memory", save_original_format=False)
    assert contents(tmp_path / "memory") == contents(tmp_path / "disk")


TOLD_BY_NAMES = [row for row in ROWS if row.layout not in ("vit_msn", "vit_mae")]  # whose names alone are ViT's


@pytest.mark.parametrize("row", TOLD_BY_NAMES, ids=lambda row: row.name)
def test_a_file_without_its_config_is_asked_for_what_no_tensor_and_no_code_tells(row, tmp_path):
    row.make().save_pretrained(tmp_path)
    expected = contents(tmp_path)
    bare = (tmp_path / "model.safetensors").rename(Path(tempfile.mkdtemp()) / "bare.safetensors")
    with pytest.raises(CheckpointError, match="nothing tells") as error:
        open_checkpoint(bare)
    asked = str(error.value).partition("nothing tells ")[2].partition(". Different")[0].split(", ")
    assert set(asked) <= set(ASKED)
    assert ("image_size" in asked) is (row.layout not in ("siglip_vision_model", "clip_vision_model"))
    assert contents(bare, **{name: expected[0][name] for name in asked}) == expected


MSN = Row(
    "ViT-MSN with a head",
    transformers.ViTMSNForImageClassification,
    maker(transformers.ViTMSNConfig, num_labels=11),
    "vit_msn",
    HEAD | {"norm_eps": 1e-6},
)


def test_vit_msn_s_head_is_read_as_transformers_4_and_5_name_its_layers_and_written_as_4_does(tmp_path):
    """transformers 5 leaves the prefix off them when it saves; both load what 4 wrote."""
    saved = MSN.save(tmp_path / "5")
    tensors = safetensors.numpy.load_file(tmp_path / "5" / "model.safetensors")
    assert "encoder.layer.0.layernorm_before.weight" in tensors
    found = open_checkpoint(tmp_path / "5")
    read: Any = READ | MSN.read
    assert found.config == ViTConfig(**read)
    save_checkpoint(tmp_path / "4", found.config, found.tensors(), layout="transformers:vit_msn")
    assert "vit.encoder.layer.0.layernorm_before.weight" in open_checkpoint(tmp_path / "4")._file.specs
    images = np.random.default_rng(0).standard_normal((2, 40, 40, 3))
    assert gap(MSN.load(tmp_path / "4")(images), saved.answer(images)) < FORWARD
    assert (
        gap(run_torch(vit_torch.ViT.from_pretrained(tmp_path / "5").double(), images)["output"], saved.answer(images))
        < FORWARD
    )


MAE = maker(
    transformers.ViTMAEConfig, decoder_hidden_size=24, decoder_num_hidden_layers=1, decoder_num_attention_heads=2
)
DECODERS = [
    (transformers.ViTMAEForPreTraining, MAE, "vit_mae", "decoder"),
    (transformers.ViTForMaskedImageModeling, maker(transformers.ViTConfig), "vit", "mask_token"),
    (transformers.DeiTForMaskedImageModeling, maker(transformers.DeiTConfig), "deit", "mask_token"),
]


@pytest.mark.parametrize(
    ("cls", "config", "layout", "also"), DECODERS, ids=lambda case: getattr(case, "__name__", None)
)
def test_decoders_of_masked_pre_training_are_left_out_and_said(cls, config, layout, also, tmp_path):
    model: Any = cls(config())
    model.save_pretrained(tmp_path)
    found = open_checkpoint(tmp_path)
    assert found.layout == f"transformers:{layout}"
    assert (found.config.num_classes, found.config.pre_logits, found.config.pool) == (0, 0, "class")
    said = " ".join(found.said)
    assert "left out the decoder of masked pre-training" in said
    assert also in said


def test_a_decoder_beside_it_tells_vit_mae_from_vit_without_a_config(tmp_path):
    model: Any = transformers.ViTMAEForPreTraining(MAE())
    model.save_pretrained(tmp_path)
    expected = open_checkpoint(tmp_path).config
    (tmp_path / "config.json").unlink()
    given = {name: getattr(expected, name) for name in ("image_size", "num_heads", "norm_eps", "act")}
    found = open_checkpoint(tmp_path, overrides=given)
    assert (found.layout, found.config) == ("transformers:vit_mae", expected)


def edited(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Puts more tensors into a file."""
    own = safetensors.numpy.load_file(path / "model.safetensors")
    safetensors.numpy.save_file(own | tensors, path / "model.safetensors")


def test_a_pooler_beside_a_head_is_left_out_because_the_head_stands_on_the_class_token(tmp_path):
    row = ROWS[0]
    row.make().save_pretrained(tmp_path)
    expected = contents(tmp_path)
    edited(tmp_path, {"vit.pooler.dense.weight": np.ones((36, 36), "f4"), "vit.pooler.dense.bias": np.ones(36, "f4")})
    assert contents(tmp_path) == expected
    assert "left out the pooler, which the head doesn't use" in open_checkpoint(tmp_path).said


def test_a_pooler_s_activation_counts_only_where_a_pooler_is_used(tmp_path):
    config = maker(transformers.ViTConfig, pooler_act="gelu", num_labels=11)()
    model: Any = transformers.ViTForImageClassification(config)
    model.save_pretrained(tmp_path / "head")
    found = open_checkpoint(tmp_path / "head")
    assert (found.config.num_classes, found.config.pre_logits) == (11, 0)
    images = np.random.default_rng(0).standard_normal((2, *found.config.image_hw, 3))
    ours = run_torch(vit_torch.ViT.from_pretrained(tmp_path / "head").double(), images)["output"]
    assert gap(ours, answer(model)(images)) < FORWARD
    model = transformers.ViTModel(config)
    model.save_pretrained(tmp_path / "pooler")
    with pytest.raises(CheckpointError, match="pooler_act 'gelu': only 'tanh', or with a head, which uses no pooler"):
        open_checkpoint(tmp_path / "pooler")
    said = json.loads((tmp_path / "pooler" / "config.json").read_text())
    said["architectures"] = ["ViTForImageClassification"]  # which the tensors aren't
    (tmp_path / "pooler" / "config.json").write_text(json.dumps(said))
    with pytest.raises(CheckpointError, match=r"2 unexpected:\n    pooler\.dense"):
        open_checkpoint(tmp_path / "pooler")


def test_counting_buffers_of_older_files_are_left_out(tmp_path):
    row = next(row for row in ROWS if row.name == "CLIP")
    row.make().save_pretrained(tmp_path)
    expected = contents(tmp_path)
    edited(tmp_path, {"embeddings.position_ids": np.arange(26)[None]})
    assert contents(tmp_path) == expected


def test_text_towers_are_left_out_and_said(tmp_path):
    for row in (row for row in ROWS if row.name.endswith("text tower")):
        row.save(tmp_path / row.layout)
        assert "left out the text tower" in " ".join(open_checkpoint(tmp_path / row.layout).said)


def test_clip_s_older_configs_say_the_tower_twice_and_the_second_counts(tmp_path):
    model: Any = next(row for row in ROWS if row.name == "CLIP with its text tower").make()
    model.save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    said["vision_config_dict"] = {**said["vision_config"], "hidden_act": "gelu"}
    (tmp_path / "config.json").write_text(json.dumps(said))
    assert open_checkpoint(tmp_path).config.act == "gelu"
    theirs: Any = transformers.CLIPConfig.from_pretrained(tmp_path)
    assert theirs.vision_config.hidden_act == "gelu"


def test_a_timm_wrapper_is_read_as_timm_s(tmp_path):
    """TimmWrapperForImageClassification saves timm's names, and timm's config with a model_type."""
    config = ViTConfig(**{**READ, "norm_eps": 1e-6, "pos_resize": "bicubic_antialias"}, num_classes=3)
    labels = ("cat", "dog", "fox")
    theirs: Any = transformers.TimmWrapperForImageClassification
    theirs.from_pretrained(write(config, "timm", labels=labels)).save_pretrained(tmp_path)
    found = open_checkpoint(tmp_path)
    assert (found.layout, found.config, found.labels) == ("timm:vit", config, labels)


CONVNEXT: Any = transformers.DINOv3ConvNextConfig
NO_CLASSES = [
    (transformers.BeitModel, maker(transformers.BeitConfig), "BEiT or data2vec's ViT"),
    (transformers.BeitForImageClassification, maker(transformers.BeitConfig), "BEiT or data2vec's ViT"),
    (transformers.Data2VecVisionModel, maker(transformers.Data2VecVisionConfig), "BEiT or data2vec's ViT"),
    (transformers.DINOv3ConvNextModel, lambda: CONVNEXT(hidden_sizes=[8] * 4, depths=[1] * 4), "DINOv3's ConvNeXt"),
]


@pytest.mark.parametrize(("cls", "config", "what"), NO_CLASSES, ids=lambda case: getattr(case, "__name__", None))
@pytest.mark.parametrize("original", [True, False], ids=["on disk", "in memory"])
def test_models_of_other_functions_are_refused_by_name_with_their_config_and_without(
    cls, config, what, original, tmp_path
):
    cls(config()).save_pretrained(tmp_path, save_original_format=original)
    with pytest.raises(CheckpointError, match=f"{what} is not read: "):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=f"{what} is not read: "):
        open_checkpoint(tmp_path)


def test_siglip_2_of_any_shape_is_refused_by_its_config(tmp_path):
    sizes: Any = {name: value for name, value in SIZES.items() if name != "image_size"}
    model: Any = transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(**sizes, num_patches=25))
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="NaFlex"):
        open_checkpoint(tmp_path)


def test_a_model_type_that_no_layout_reads_is_refused_whatever_its_names(tmp_path):
    """Such as Pixio, whose names are ViT's."""
    ROWS[0].make().save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(said | {"model_type": "pixio"}))
    with pytest.raises(CheckpointError, match="model_type 'pixio' is not read; these are: transformers:vit, "):
        open_checkpoint(tmp_path)


BASE = ViTConfig(**{**READ, "mlp_dim": 72, "norm_eps": 1e-6}, num_classes=11)
SCALED = BASE.replace(layer_scale=True)
# What no class holds as it is -> the class that holds it after steps.
ADAPTED = {
    "no class row": (BASE.replace(pos_prefix="none"), "vit"),
    "no k bias": (BASE.replace(qkv_bias="qv"), "vit"),
    "no head bias": (BASE.replace(head_bias=False), "vit"),
    "no patch bias": (BASE.replace(patch_bias=False), "vit"),
    "DeiT III": (SCALED.replace(pos_prefix="none"), "dinov2"),
    "registers, as timm has them": (
        SCALED.replace(num_registers=4, pos_prefix="none", num_classes=0),
        "dinov2_with_registers",
    ),
    "SigLIP without biases of k": (
        BASE.replace(class_token=False, pool="map", num_classes=0, qkv_bias="qv"),
        "siglip_vision_model",
    ),
}


@pytest.mark.parametrize("case", ADAPTED)
def test_what_no_class_holds_as_it_is_goes_into_one_of_the_same_function(case, tmp_path):
    config, model_type = ADAPTED[case]
    tensors = random_tensors(config, dtype=np.float64)
    said = save_checkpoint(tmp_path / "theirs", config, tensors.items(), layout="transformers")
    assert any("the same function" in note for note in said)
    assert open_checkpoint(tmp_path / "theirs").layout == f"transformers:{model_type}"
    save_checkpoint(tmp_path / "ours", config, tensors.items())
    images = np.random.default_rng(0).standard_normal((2, 40, 40, 3))
    ours = run_torch(vit_torch.ViT.from_pretrained(tmp_path / "ours"), images)["output"]
    assert gap(answer(auto_model(tmp_path / "theirs"))(images), ours) < FORWARD


# The class that `--to transformers` picks.
NATURAL = {
    "ViTForImageClassification": BASE,
    "ViTModel": BASE.replace(num_classes=0),
    "DeiTForImageClassificationWithTeacher": BASE.replace(dist_token=True, pool="class_dist"),
    "DeiTForImageClassification": BASE.replace(dist_token=True),
    "IJepaForImageClassification": BASE.replace(class_token=False, pool="mean"),
    "Dinov2ForImageClassification": SCALED.replace(pool="class_mean"),
    "Dinov2WithRegistersModel": SCALED.replace(num_classes=0, num_registers=4),
    "SiglipVisionModel": BASE.replace(class_token=False, pool="map", num_classes=0),
    "CLIPVisionModelWithProjection": BASE.replace(pre_norm=True, patch_bias=False, head_bias=False),
    "CLIPVisionModel": BASE.replace(pre_norm=True, patch_bias=False, num_classes=0),
}


@pytest.mark.parametrize("name", NATURAL)
def test_to_transformers_picks_the_class_by_the_config(name):
    said = json.loads((write(NATURAL[name], "transformers") / "config.json").read_text())
    assert said["architectures"] == [name]


@pytest.mark.parametrize("name", [name for name in NATURAL if NATURAL[name].num_classes])
def test_labels_travel(name):
    labels = tuple(f"name {i}" for i in range(11))
    path = write(NATURAL[name], "transformers", labels=labels)
    assert open_checkpoint(path).labels == labels
    assert tuple(auto_model(path).config.id2label.values()) == labels


REFUSED = {
    "a width that is no multiple": ("dinov2", SCALED.replace(mlp_dim=73, num_classes=0), "mlp_dim 73: only a multiple"),
    "a SwiGLU of another width": (
        "dinov2",
        SCALED.replace(mlp_dim=49, mlp="swiglu", act="silu", num_classes=0),
        "mlp_dim 49: only a multiple of dim 36, two thirds of it rounded up to a multiple of 8",
    ),
    "a GELU in a SwiGLU": (
        "dinov2",
        SCALED.replace(mlp_dim=48, mlp="swiglu", num_classes=0),
        "act 'gelu': only 'silu' with mlp 'swiglu'",
    ),
    "registers without registers": ("dinov2_with_registers", SCALED.replace(num_classes=0), "num_registers 0"),
    "oblong images": ("siglip_vision_model", BASE.replace(image_size=(40, 48)), "image_size 40x48: the class takes"),
    "a projection with a bias": (
        "clip_vision_model",
        BASE.replace(pre_norm=True, patch_bias=False),
        "head_bias True: only False with pool 'class'",
    ),
    "a teacher without a head": (
        "deit",
        BASE.replace(dist_token=True, pool="class_dist", num_classes=0),
        "pool 'class_dist': only 'class' without a head",
    ),
    "rounded periods": (
        "dinov3_vit",
        SCALED.replace(pos_embed="none", rope="dinov3", rope_theta=100.0, rope_round_periods="bfloat16", num_classes=0),
        "If that will do: --set rope_round_periods=none",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_class_cannot_hold_is_refused_in_words(case):
    layout, config, message = REFUSED[case]
    with pytest.raises(CheckpointError, match=message):
        write(config, f"transformers:{layout}")


def test_a_target_without_preprocessing_says_so(tmp_path):
    notes = save_checkpoint(tmp_path / "out", BASE, random_tensors(BASE).items(), layout="transformers")
    assert (
        "how images are prepared is unknown: there is no preprocessor_config.json for AutoImageProcessor to load"
        in notes
    )
    assert not (tmp_path / "out" / "preprocessor_config.json").exists()
