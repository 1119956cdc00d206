"""What a user of vit-convert does wrong is one message, exit code 2, and nothing half-written."""

import json

import numpy as np
import pytest
import safetensors.numpy

from parity_tests.converting import ASKED, CONFIG, TENSORS, fails, files, run, save_native
from vit_convert.checkpoint import open_checkpoint, save_checkpoint
from vit_convert.errors import CheckpointError
from vit_convert.layouts import LAYOUTS, LIBRARIES
from vit_convert.resolve import parse_overrides


@pytest.fixture
def native(tmp_path):
    return save_native(tmp_path)


def missing_file(native, tmp_path):
    return (tmp_path / "gone", tmp_path / "out", "--to", "flax"), r"gone: no such file or directory"


def truncated(native, tmp_path):
    weights = native / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return (native, tmp_path / "out", "--to", "flax"), "model.safetensors: truncated or not a safetensors file"


def wrong_layout(native, tmp_path):
    known = f"the layouts are {', '.join(sorted({*LAYOUTS, *LIBRARIES}))}"
    return (native, tmp_path / "out", "--to", "keras"), f"unknown layout 'keras'; {known}"


def misspelled_layout(native, tmp_path):
    return (native, tmp_path / "out", "--to", "tim:vit"), "unknown layout 'tim:vit'; did you mean timm:vit"


def existing(native, tmp_path):
    (tmp_path / "out").mkdir()
    return (native, tmp_path / "out", "--to", "flax"), "out exists; choose another name, or overwrite it (--overwrite"


def misshapen(native, tmp_path):
    wrong = TENSORS | {"norm.weight": np.zeros(23, np.float32), "extra": np.zeros(1, np.float32)}
    wrong |= {name: np.zeros(24, np.float32) for name in ("patch_embed.proj.weight", "blocks.0.mlp.fc2.weight")}
    del wrong["cls_token"]
    safetensors.numpy.save_file(wrong, native / "model.safetensors")
    missing = "read as native: the tensors are not those of the config\n  1 missing:\n    cls_token (1, 1, 24)\n"
    unexpected = "  1 unexpected:\n    extra (1,)\n"
    lists = f"{missing}{unexpected}  3 misshapen:\n    patch_embed.proj.weight: expected (24, 3, 2, 3), got (24,)\n"
    lists += "    blocks.0.mlp.fc2.weight: expected (24, 40), got (24,)\n    norm.weight: expected (24,), got (23,)"
    return (native, tmp_path / "out", "--to", "flax"), lists


def no_parent(native, tmp_path):
    return (native, tmp_path / "a" / "b", "--to", "flax"), "a doesn't exist"


def same(native, tmp_path):
    return (native, native, "--to", "flax", "--overwrite"), "SRC and DST are the same"


def inside(native, tmp_path):
    weights = native / "model.safetensors"
    return (weights, native, "--to", "flax", "--overwrite"), f"SRC {weights} lies in DST {native}; choose another DST"


def around(native, tmp_path):
    return (native, tmp_path, "--to", "flax", "--overwrite"), f"SRC {native} lies in DST {tmp_path}; choose another DST"


def linked(native, tmp_path):
    (tmp_path / "blob").mkdir()
    (native / "model.safetensors").rename(tmp_path / "blob" / "b0")
    (native / "model.safetensors").symlink_to(tmp_path / "blob" / "b0")
    return (native / "model.safetensors", native, "--to", "flax", "--overwrite"), "lies in DST"


def linked_into(native, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "config.json").write_text((native / "config.json").read_text())
    weights, link = native / "model.safetensors", tmp_path / "links" / "model.safetensors"
    link.symlink_to(weights)
    said = f"SRC {link.parent} has its weights in DST {native}: {link} is {weights}; choose another DST"
    return (link.parent, native, "--to", "flax", "--overwrite"), said


def a_shard_linked_into(native, tmp_path):
    folder, name = tmp_path / "shards", "model-00001-of-00001.safetensors"
    folder.mkdir()
    (folder / "config.json").write_text((native / "config.json").read_text())
    index = {"weight_map": dict.fromkeys(TENSORS, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / name).symlink_to(native / "model.safetensors")
    said = f"has its weights in DST {native}: {folder / name} is {native / 'model.safetensors'}; choose another DST"
    return (folder, native, "--to", "flax", "--overwrite"), said


def not_held(native, tmp_path):
    args = (native, tmp_path / "out", "--to", "timm", "--set", "norm_eps=1e-12")
    eps = "norm_eps 1e-12: only 1e-06 or 1e-05 with norm 'layer' and mlp 'mlp'"
    instead = "--set norm_eps=1e-06 takes that, nearly the same function"
    return args, f"layout timm:vit can't hold this model:\n  {eps}; {instead}\n"


def other_files(native, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    return (
        native,
        tmp_path / "out",
        "--to",
        "flax",
        "--overwrite",
    ), "holds other files, so it is not overwritten: thesis"


def unknown_field(native, tmp_path):
    return ("inspect", native, "--set", "num_head=4"), (
        "--set num_head=4: unknown config field num_head (did you mean num_heads?); the fields are image_size"
    )


def no_value(native, tmp_path):
    return ("inspect", native, "--set", "eps"), "--set needs field=value, got 'eps'; the fields are image_size"


def endless(native, tmp_path):
    return ("inspect", native, "--set", "depth=1000000000"), (
        f"depth 1000000000 can't be: it has only {len(TENSORS)} tensors"
    )


def empty_torch(native, tmp_path):
    (tmp_path / "empty.pth").touch()
    return (tmp_path / "empty.pth", tmp_path / "out", "--to", "flax"), "empty.pth: truncated or no torch file\n"


def parent_is_a_file(native, tmp_path):
    (tmp_path / "f2").touch()
    return (native, tmp_path / "f2" / "c", "--to", "flax"), "f2/c: its parent " + f"{tmp_path}/f2 is a file"


def bad_value(native, tmp_path):
    return ("inspect", native, "--set", "depth=two"), "--set depth: 'two' is not a value of it (INTEGER)"


def contradiction(native, tmp_path):
    return ("inspect", native, "--set", "num_heads=5"), "dim 24 is not divisible by num_heads 5"


def newer(native, tmp_path):
    config = json.loads((native / "config.json").read_text())
    (native / "config.json").write_text(json.dumps(config | {"version": 2}))
    return ("inspect", native), "expected format 'vit-parity' version 1, got 'vit-parity' version 2"


def broken_json(native, tmp_path):
    (native / "config.json").write_text("{")
    return ("inspect", native), "config.json: not readable as JSON"


def deep_json(native, tmp_path):
    (native / "config.json").write_text("[" * 100_000)
    return ("inspect", native), "config.json: not readable as JSON (maximum recursion depth exceeded"


def other_model(native, tmp_path):
    (native / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return ("inspect", native), "transformers' model_type 'bert' is not read; these are: transformers:vit, "


def no_vit(native, tmp_path):
    safetensors.numpy.save_file({"conv1.weight": np.zeros(3)}, tmp_path / "resnet.safetensors")
    return ("inspect", tmp_path / "resnet.safetensors"), f"no known layout ({', '.join(LAYOUTS)}) has"


MISTAKES = (
    missing_file, truncated, wrong_layout, misspelled_layout, existing, misshapen, no_parent, same, inside, around,
    linked, linked_into, a_shard_linked_into, not_held, other_files, unknown_field, no_value, endless, empty_torch,
    parent_is_a_file, bad_value, contradiction, newer, broken_json, deep_json, other_model, no_vit,
)  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_one_message_and_leaves_nothing(mistake, native, tmp_path, capsys):
    arguments, message = mistake(native, tmp_path)
    before = files(tmp_path)
    assert message in fails(capsys, *arguments)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dtype", "int8"), "dtype 'int8': expected one of float16, bfloat16, float32, float64"),
        (("--dtype", "half"), "dtype 'half': expected one of"),
        (("--image-size", "10"), "image size 10x10 is not divisible by patch size 2x3"),
        (("--image-size", "big"), "--image-size: 'big' is not a value of it (HEIGHTxWIDTH)"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(native, tmp_path, capsys, options, message):
    assert message in fails(capsys, native, tmp_path / "out", "--to", "native", *options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 224.0}, "image_size must be a positive integer or .*got 224.0"),
        ({"patch_size": None, "depth": "2"}, "depth must be an integer .*got '2'"),
        ({"num_registers": "4"}, "num_registers must be an integer"),
        ({"class_token": "yes"}, "class_token must be true or false, got 'yes'"),
        ({"num_classes": "3"}, "num_classes must be an integer"),
        ({"act": ["gelu"]}, "act must be one of gelu"),
        ({"norm_eps": "1e-6"}, "norm_eps must be between 0 and 1"),
        ({"rope_theta": "hot"}, "rope_theta must be a positive number, .*got 'hot'"),
    ],
    ids=str,
)
@pytest.mark.parametrize("bare", [True, False])
def test_an_override_of_another_type_is_refused_by_name(native, tmp_path, changes, message, bare):
    path = (native / "model.safetensors").rename(tmp_path / "bare.safetensors") if bare else native
    answers = parse_overrides(ASKED) if "rope_theta" in changes else {"image_size": (6, 9)}
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(path, overrides=answers | changes)


def test_a_name_of_the_hub_is_told_how_to_say_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "google/vit-base-patch16-224"
    with pytest.raises(CheckpointError, match=f"{name}: no such file or directory.* is named hf-hub:{name}$"):
        open_checkpoint(name)
    (tmp_path / "runs").mkdir()
    with pytest.raises(CheckpointError, match=r"runs/last: no such file or directory$"):
        open_checkpoint("runs/last")


def test_dtypes_that_do_not_cover_the_tensors_are_refused(tmp_path):
    dtypes = {name: array.dtype for name, array in TENSORS.items() if name != "head.bias"}
    with pytest.raises(CheckpointError, match=r"dtypes given: none for head\.bias"):
        save_checkpoint(tmp_path / "a", CONFIG, TENSORS.items(), dtypes=dtypes)


def test_an_image_size_that_the_patches_do_not_divide_is_refused(native):
    with pytest.raises(ValueError, match="image size 10x10 is not divisible by patch size 2x3"):
        open_checkpoint(native, image_size=10)


def test_labels_that_do_not_match_the_head_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2 labels for a head of 3 classes"):
        save_checkpoint(tmp_path / "out", CONFIG, TENSORS.items(), labels=("a", "b"))


def test_a_bug_of_ours_keeps_its_traceback(native, monkeypatch):
    monkeypatch.setattr("vit_convert.checkpoint.open_checkpoint", lambda *args, **kwargs: int("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        run("inspect", native)
