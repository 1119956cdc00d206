"""vit-convert: converts and inspects; what a user does wrong is one message, exit code 2, and nothing half-written."""

import errno
import itertools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from parity_tests.compare import apart
from parity_tests.strategies import random_tensors
from parity_tests.tolerances import FLOAT32
from vit_convert import __main__ as cli
from vit_convert.checkpoint import open_checkpoint, save_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.layouts import LAYOUTS, LIBRARIES
from vit_convert.preprocess import Preprocess
from vit_convert.resolve import parse_override

CONFIG = ViTConfig(
    image_size=(6, 9), patch_size=(2, 3), dim=24, depth=2, num_heads=3, mlp_dim=40, num_classes=3, pos_resize="bicubic"
)
TENSORS = random_tensors(CONFIG)
ASKED = ("image_size=6x9", "num_heads=3", "pos_resize=bicubic", "rope=none", "norm_eps=1e-6", "act=gelu", "pool=class")


@pytest.fixture
def native(tmp_path):
    preprocess = Preprocess(resize=(6, 9), crop=(6, 9), mode="squash")
    labels = ("cat", "dog", "owl")
    save_checkpoint(tmp_path / "native", CONFIG, TENSORS.items(), preprocess=preprocess, labels=labels)
    return tmp_path / "native"


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def fails(capsys, *arguments):
    """The one message of a command that fails as a user's mistake."""
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("vit-convert: error: ")
    assert "Traceback" not in err
    return err


def test_a_round_through_every_layout_gives_the_first_file_again(native, tmp_path, capsys):
    source = native
    for layout in ("flax", "transformers", "timm", "native"):
        assert run(source, tmp_path / f"to_{layout}", "--to", layout) == 0
        source = tmp_path / f"to_{layout}"
    found = open_checkpoint(source)
    assert found.config == CONFIG.replace(pos_resize="bicubic_antialias")  # timm's, which was said
    assert "note: timm resizes positions by bicubic_antialias, not by bicubic" in capsys.readouterr().err
    assert found.labels == ("cat", "dog", "owl")
    first, last = (safetensors.numpy.load_file(path / "model.safetensors") for path in (native, source))
    assert first.keys() == last.keys()
    assert all(first[name].tobytes() == last[name].tobytes() for name in first)


def test_inspect_says_every_field_and_where_it_came_from(native, capsys):
    assert run("inspect", native, "--set", "act=gelu_tanh", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["layout"], facts["dtype"]) == ("native", "float32")
    assert facts["parameters"] == sum(array.size for array in TENSORS.values())
    assert {name: entry["value"] for name, entry in facts["config"].items()} == json.loads(
        json.dumps(CONFIG.replace(act="gelu_tanh").to_dict())
    )
    assert facts["config"]["act"]["source"] == "given"
    assert facts["config"]["norm_eps"] == {"value": 1e-6, "source": "config.json"}
    assert facts["labels"] == ["cat", "dog", "owl"]
    assert facts["preprocess"]["resize"] == [6, 9]
    assert run("inspect", native) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "image_size          6x9               config.json" in lines
    assert lines[-1] == "not finite          none"
    assert len(lines) == 3 + len(facts["config"]) + 3


def test_a_bare_file_is_asked_about_and_the_answers_suffice(native, tmp_path, capsys):
    bare = (native / "model.safetensors").rename(tmp_path / "bare.safetensors")
    error = fails(capsys, bare, tmp_path / "out", "--to", "flax")
    assert "nothing tells image_size, num_heads, pos_resize, rope, norm_eps, act, pool" in error
    assert "--set act=gelu|gelu_tanh|quick_gelu|silu" in error
    answers = [word for answer in ASKED for word in ("--set", answer)]
    assert run(bare, tmp_path / "out", "--to", "native", *answers) == 0
    assert open_checkpoint(tmp_path / "out").config == CONFIG


def test_formats_lists_the_layouts(capsys):
    assert run("formats") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [*sorted(LAYOUTS), *LIBRARIES]
    said = dict.fromkeys(LAYOUTS, "")
    name = ""
    for line in lines[: lines.index(next(iter(LIBRARIES)))]:
        name, said[name] = (line, "") if line in LAYOUTS else (name, said[name] + line.strip() + " ")
    assert said["native"].endswith("holds every model ")
    assert "always class_token, " in said["transformers:dinov2"]
    assert "never dist_token, num_registers, " in said["transformers:dinov2"]
    assert "mlp mlp|swiglu, qkv_bias all|none, pool class|class_mean" in said["transformers:dinov2"]


def test_a_dry_run_checks_everything_and_writes_nothing(native, tmp_path, capsys):
    before = files(tmp_path)
    assert run(native, tmp_path / "out", "--to", "timm", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("(timm:vit), dry run: nothing is written")
    size = sum(array.nbytes for array in TENSORS.values())
    assert lines[1:] == [f"  model.safetensors: {len(TENSORS)} tensors, {size:,} bytes", "  config.json"]
    assert files(tmp_path) == before
    (tmp_path / "out").mkdir()
    assert "out exists" in fails(capsys, native, tmp_path / "out", "--to", "timm", "--dry-run")
    assert "can't hold this model" in fails(
        capsys, native, tmp_path / "o", "--to", "timm", "--set", "norm_eps=1e-12", "--dry-run"
    )


def test_a_cast_an_image_size_and_a_new_head_are_said_and_done(native, tmp_path, capsys):
    options = ("--dtype", "bfloat16", "--image-size", "10x9", "--num-classes", "7")
    assert run(native, tmp_path / "out", "--to", "native", *options) == 0
    said = capsys.readouterr().err
    assert "note: positions resized from (3, 3) to (5, 3) by bicubic\n" in said
    assert "note: left out head.weight, head.bias; a new head of 7 classes, of zeros" in said
    assert "note: floating tensors cast to bfloat16\n" in said
    found = open_checkpoint(tmp_path / "out")
    assert found.config == CONFIG.replace(image_size=(10, 9), num_classes=7)
    assert found.labels is None
    assert found.preprocess == Preprocess(resize=(10, 9), crop=(10, 9), mode="squash")
    tensors = dict(found.tensors())
    assert {array.dtype for array in tensors.values()} == {np.dtype(ml_dtypes.bfloat16)}
    assert np.array_equal(tensors["norm.weight"], TENSORS["norm.weight"].astype(ml_dtypes.bfloat16))
    assert not tensors["head.weight"].any()


def test_a_widened_table_is_resized_after_the_cast(native):
    """What a step computes is rounded once, to the wider dtype."""
    from vit_convert.positions import resize_table

    found = dict(open_checkpoint(native, image_size=(10, 9), dtype="float64").tensors())["pos_embed"]
    table = TENSORS["pos_embed"][0, 1:].astype(np.float64).reshape(3, 3, 24)
    assert np.array_equal(found[0, 1:].reshape(5, 3, 24), resize_table(table, (5, 3), "bicubic"))


def test_two_heads_are_replaced_together(tmp_path, capsys):
    """A distilled DeiT's."""
    config = CONFIG.replace(dist_token=True, pool="class_dist")
    save_checkpoint(tmp_path / "in", config, random_tensors(config).items())
    assert run(tmp_path / "in", tmp_path / "out", "--to", "native", "--num-classes", "7") == 0
    assert "two new heads of 7 classes, of zeros: they have to be trained" in capsys.readouterr().err
    assert open_checkpoint(tmp_path / "out").config == config.replace(num_classes=7)
    tensors = dict(open_checkpoint(tmp_path / "out").tensors())
    assert not any(tensors[f"{head}.{part}"].any() for head in ("head", "head_dist") for part in ("weight", "bias"))


def test_a_head_is_dropped_by_name(native, tmp_path):
    assert run(native, tmp_path / "out", "--to", "native", "--drop-head") == 0
    found = open_checkpoint(tmp_path / "out")
    assert (found.config, found.labels) == (CONFIG.replace(num_classes=0), None)


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


def test_inspect_counts_what_is_not_finite(tmp_path, capsys):
    spoilt = {name: array.copy() for name, array in TENSORS.items()}
    spoilt["norm.bias"][:2] = np.nan
    spoilt["head.weight"][0, 0] = np.inf
    save_checkpoint(tmp_path / "spoilt", CONFIG, spoilt.items())
    assert run("inspect", tmp_path / "spoilt", "--json") == 0
    assert json.loads(capsys.readouterr().out)["not_finite"] == {"norm.bias": 2, "head.weight": 1}
    assert run("inspect", tmp_path / "spoilt") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "not finite          3 values, NaN or infinite: norm.bias (2), head.weight (1)"


def test_the_command_words_are_reserved(capsys, monkeypatch, native):
    assert cli.RESERVED == ("inspect", "formats")
    for word in cli.RESERVED:
        with pytest.raises(SystemExit) as stop:
            run(word, "--help")
        assert stop.value.code == 0
        assert f"vit-convert {word}" in capsys.readouterr().out.splitlines()[0]
    native.rename(native.parent / "inspect")
    native.mkdir()
    monkeypatch.chdir(native.parent)
    with pytest.raises(SystemExit) as stop:
        run("inspect", "out", "--to", "flax")
    assert stop.value.code == 2
    assert "unrecognized arguments: --to flax" in capsys.readouterr().err
    assert run("./inspect", "out", "--to", "flax") == 0


RICH = CONFIG.replace(num_registers=4, qk_norm=True, pre_logits=11)


@pytest.mark.parametrize("layout", ["native", "flax", "transformers"])
def test_any_tensor_with_another_number_of_axes_is_listed(tmp_path, capsys, layout):
    config = CONFIG if layout == "transformers" else RICH
    save_checkpoint(tmp_path / "a", config, random_tensors(config).items(), layout=layout)
    weights = tmp_path / "a" / "model.safetensors"
    tensors = safetensors.numpy.load_file(weights)
    for name, shape in itertools.product(tensors, [(), (3,), (0,), (2, 3, 4, 5, 6)]):
        if len(shape) == tensors[name].ndim:
            continue
        safetensors.numpy.save_file(tensors | {name: np.zeros(shape, np.float32)}, weights)
        error = fails(capsys, "inspect", tmp_path / "a")
        assert f"1 misshapen:\n    {name}: expected {tensors[name].shape}, got {shape}" in error


def test_a_bare_file_with_a_broken_tensor_is_one_message_whatever_it_is(tmp_path):
    """Nothing tells the config, so the offender is listed once what is asked for has been answered, or asked for."""
    tensors, path = random_tensors(RICH), tmp_path / "bare.safetensors"
    asked = ("image_size", "pos_resize", "rope", "norm_eps", "act", "pool")
    answers = {name: getattr(RICH, name) for name in asked}
    for name, shape in itertools.product(tensors, [(), (3,), (2, 3, 4, 5, 6), None]):
        changed = tensors | {name: np.zeros(shape or (), np.float32)}
        if shape is None:
            del changed[name]
        safetensors.numpy.save_file(changed, path)
        with pytest.raises(CheckpointError):
            open_checkpoint(path, overrides=answers | {"patch_size": (2, 4)})


def test_a_bare_file_that_lacks_a_tensor_is_told_so(tmp_path, capsys):
    path = tmp_path / "bare.safetensors"
    tensors = {name: array for name, array in TENSORS.items() if name != "blocks.0.mlp.fc2.weight"}
    safetensors.numpy.save_file(tensors | {"blocks.0.mlp.fc_2.weight": TENSORS["norm.weight"]}, path)
    error = fails(capsys, "inspect", path)
    assert "mlp_dim" not in error
    assert "1 tensors of it have no place: blocks.0.mlp.fc_2.weight" in error
    error = fails(capsys, "inspect", path, *(word for answer in ASKED for word in ("--set", answer)))
    assert "1 missing:\n    blocks.0.mlp.fc2.weight (24, 40)\n  1 unexpected:\n    blocks.0.mlp.fc_2.weight" in error


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
    answers = dict(parse_override(answer) for answer in ASKED) if "rope_theta" in changes else {"image_size": (6, 9)}
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


def test_weights_that_no_model_computes_in_convert_and_are_refused_by_name(tmp_path):
    odd = TENSORS | {
        "head.weight": np.ones((3, 24), np.int8),
        "head.bias": np.ones(3, np.int64),
        "norm.bias": np.ones(24, ml_dtypes.float8_e4m3fn),
    }
    save_checkpoint(tmp_path / "odd", CONFIG, odd.items())
    assert run(tmp_path / "odd", tmp_path / "flax", "--to", "flax") == 0
    found = open_checkpoint(tmp_path / "flax")
    assert dict(found.tensors())["head.weight"].dtype == np.int8
    with pytest.raises(CheckpointError) as error:
        found.check_floating()
    listed = {"head.weight int8", "head.bias int64", "norm.bias float8_e4m3fn"}
    assert {line.strip() for line in str(error.value).splitlines()[1:]} == listed


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_weights_of_any_floating_dtype_are_accepted(tmp_path, dtype):
    save_checkpoint(tmp_path / "a", CONFIG, random_tensors(CONFIG, dtype=dtype).items())
    open_checkpoint(tmp_path / "a").check_floating()


def test_preprocessing_follows_an_image_size_that_is_asked_for(tmp_path, capsys):
    preprocess = Preprocess(resize=(8, 12), crop=(6, 9))
    save_checkpoint(tmp_path / "a", CONFIG, TENSORS.items(), preprocess=preprocess)
    assert open_checkpoint(tmp_path / "a", image_size=(6, 9)).preprocess == preprocess
    found = open_checkpoint(tmp_path / "a", image_size=(12, 27))
    assert found.preprocess == Preprocess(resize=(16, 36), crop=(12, 27))
    assert found.said[1] == "preprocessing follows the image size: resize to (16, 36), crop to (12, 27)"
    # The same number of patches in another shape, so the table fits as it is.
    assert run("inspect", tmp_path / "a", "--set", "image_size=18x3", "--set", "pos_embed=learned", "--json") == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["preprocess"]["resize"], json.loads(out)["preprocess"]["crop"]) == ([24, 4], [18, 3])
    assert err == "note: preprocessing follows the image size: resize to (24, 4), crop to (18, 3)\n"


def test_preprocessing_of_another_size_than_the_model_s_is_said(tmp_path):
    """It isn't refused: a model that takes any size may have been evaluated at another."""
    notes = save_checkpoint(
        tmp_path / "a", CONFIG, TENSORS.items(), preprocess=Preprocess(resize=(8, 12), crop=(8, 12))
    )
    assert notes == ("preprocessing crops to 8x12, the config's image_size is 6x9",)
    same = Preprocess(resize=(8, 12), crop=(6, 9))
    assert save_checkpoint(tmp_path / "b", CONFIG, TENSORS.items(), preprocess=same) == ()


def test_inspect_tells_what_is_on_disk_from_what_a_library_has_in_its_code(native, tmp_path, capsys):
    def sources(path):
        assert run("inspect", path, "--json") == 0
        return {name: entry["source"] for name, entry in json.loads(capsys.readouterr().out)["config"].items()}

    for layout in ("timm", "transformers"):
        assert run(native, tmp_path / layout, "--to", layout) == 0
    capsys.readouterr()
    found = sources(tmp_path / "timm")
    assert found["norm_eps"] == found["pos_resize"] == "timm's code for vit_base_patch16_224"
    assert found["dim"] == found["image_size"] == found["num_classes"] == found["final_norm"] == "config.json"
    found = sources(tmp_path / "transformers")
    assert found["norm_eps"] == found["act"] == "config.json"
    assert found["pos_resize"] == found["norm"] == "transformers' code"
    path = tmp_path / "transformers" / "config.json"
    entries = json.loads(path.read_text())
    path.write_text(json.dumps({n: v for n, v in entries.items() if n not in ("num_channels", "hidden_act")}))
    found = sources(tmp_path / "transformers")
    assert found["in_channels"] == found["act"] == "transformers' default"
    entries = json.loads((native / "config.json").read_text())
    del entries["config"]["act"]
    (native / "config.json").write_text(json.dumps(entries))
    assert sources(native)["act"] == "default"


def test_a_checkpoint_is_as_readable_as_the_umask_says(tmp_path):
    old = os.umask(0o027)
    try:
        save_checkpoint(tmp_path / "a", CONFIG, TENSORS.items())
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o750


def test_saving_leaves_the_process_s_umask_alone(native, monkeypatch):
    monkeypatch.setattr("os.umask", lambda mask: pytest.fail("the umask is every thread's"))
    save_checkpoint(native, CONFIG, TENSORS.items(), overwrite=True)


def test_dtypes_that_do_not_cover_the_tensors_are_refused(tmp_path):
    dtypes = {name: array.dtype for name, array in TENSORS.items() if name != "head.bias"}
    with pytest.raises(CheckpointError, match=r"dtypes given: none for head\.bias"):
        save_checkpoint(tmp_path / "a", CONFIG, TENSORS.items(), dtypes=dtypes)


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
    linked, not_held, other_files, unknown_field, no_value, endless, empty_torch, parent_is_a_file, bad_value,
    contradiction, newer, broken_json, deep_json, other_model, no_vit,
)  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_one_message_and_leaves_nothing(mistake, native, tmp_path, capsys):
    arguments, message = mistake(native, tmp_path)
    before = files(tmp_path)
    assert message in fails(capsys, *arguments)
    assert files(tmp_path) == before


def test_overwriting_replaces_a_checkpoint(native, tmp_path):
    assert run(native, tmp_path / "out", "--to", "flax") == 0
    assert run(native, tmp_path / "out", "--to", "timm", "--overwrite") == 0
    assert open_checkpoint(tmp_path / "out").layout == "timm:vit"
    assert files(tmp_path / "out") == ["config.json", "model.safetensors"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_failure_while_writing_loses_nothing(native, tmp_path, overwrite):
    """The source breaks in the middle, and the message says that; what was there before is there, and nothing else."""
    out = native if overwrite else tmp_path / "out"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def breaks():
        yield from list(TENSORS.items())[:5]
        raise OSError(errno.EIO, os.strerror(errno.EIO), "the source.npz")

    dtypes = {name: array.dtype for name, array in TENSORS.items()}
    said = r"^a tensor to be written can't be read: \[Errno 5\] Input/output error: 'the source\.npz'$"
    with pytest.raises(CheckpointError, match=said):
        save_checkpoint(out, CONFIG, breaks(), dtypes=dtypes, overwrite=overwrite)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [native]


def test_a_place_that_is_not_permitted_is_named(native, tmp_path, monkeypatch, capsys):
    def refuse(self, *arguments, **more):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    error = fails(capsys, native, tmp_path / "out", "--to", "flax")
    assert error == f"vit-convert: error: {tmp_path}/out: can't be written: Permission denied\n"


LABELS = "'labels' must be a list of strings"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": None}, "'config' must be an object of fields, got null"),
        ({"config": [1]}, r"'config' must be an object of fields, got \[1\]"),
        ({"config": ...}, "'config' is missing"),
        ({"preprocess": [1]}, "'preprocess' must be an object of fields"),
        ({"labels": "abc"}, f'{LABELS}, got "abc"'),
        ({"labels": ""}, f'{LABELS}, got ""'),
        ({"labels": {"0": "a", "1": "b", "2": "c"}}, f"{LABELS}, got {{"),
        ({"labels": ["a", 1, None]}, f"{LABELS}; entry 1 is 1, entry 2 is null"),
    ],
    ids=str,
)
def test_a_config_whose_entries_are_of_another_kind_is_refused_by_name(native, changes, message):
    entries = json.loads((native / "config.json").read_text()) | changes
    (native / "config.json").write_text(json.dumps({name: v for name, v in entries.items() if v is not ...}))
    with pytest.raises(CheckpointError, match=f"native: config.json: {message}"):
        open_checkpoint(native)


VISION = {"layers": 2, "width": 36, "head_width": 12}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("config.json", {"architecture": odd}) for odd in ([], {}, None)),
        *(("config.json", {"model_type": "clip", "vision_config": odd}) for odd in ("x", [1])),
        *(("open_clip_config.json", {"model_cfg": odd}) for odd in ([], {}, {"vision_cfg": []}, {"vision_cfg": [1]})),
        *(
            ("open_clip_config.json", {"model_cfg": {"embed_dim": 3, "vision_cfg": VISION | odd}})
            for odd in ({"head_width": 0}, {"image_size": []})
        ),
        *(("config.json", {"format": "vit-parity", "version": 1, "layout": layout}) for layout in LAYOUTS),
    ],
    ids=str,
)
def test_a_config_that_no_library_writes_is_one_message(tmp_path, name, content):
    safetensors.numpy.save_file({"x": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("depth", [10**9, 10**30])
def test_a_depth_that_the_file_can_t_have_is_refused_at_once(native, depth):
    entries = json.loads((native / "config.json").read_text())
    entries["config"]["depth"] = depth
    (native / "config.json").write_text(json.dumps(entries))
    with pytest.raises(CheckpointError, match=f"depth {depth} can't be: it has only {len(TENSORS)} tensors"):
        open_checkpoint(native)


def test_a_checkpoint_may_be_saved_over_the_one_it_is_read_from(native):
    found = open_checkpoint(native)
    save_checkpoint(native, CONFIG, found.tensors(), dtypes=found.dtypes, overwrite=True)
    again = dict(open_checkpoint(native).tensors())
    assert all(again[name].tobytes() == array.tobytes() for name, array in TENSORS.items())


def test_resizing_on_the_way_touches_the_patch_rows_alone(native):
    from vit_convert.positions import resize_matrix

    found = open_checkpoint(native, image_size=(10, 9))
    assert open_checkpoint(native, image_size=(6, 9)).said == ()
    assert found.said[0] == "positions resized from (3, 3) to (5, 3) by bicubic"
    assert (found.config.grid, found.sources["image_size"]) == ((5, 3), "given")
    tensors, table = dict(found.tensors()), TENSORS["pos_embed"]
    rows = np.einsum("ai,ijd->ajd", resize_matrix(3, 5, "bicubic"), table[0, 1:].reshape(3, 3, 24).astype(np.float64))
    assert np.array_equal(tensors["pos_embed"][0, 0], table[0, 0])
    assert apart(tensors["pos_embed"][0, 1:], rows.reshape(15, 24)) < FLOAT32
    assert all(np.array_equal(tensors[name], TENSORS[name]) for name in TENSORS if name != "pos_embed")


def test_an_image_size_that_the_patches_do_not_divide_is_refused(native):
    with pytest.raises(ValueError, match="image size 10x10 is not divisible by patch size 2x3"):
        open_checkpoint(native, image_size=10)


def test_labels_that_do_not_match_the_head_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2 labels for a head of 3 classes"):
        save_checkpoint(tmp_path / "out", CONFIG, TENSORS.items(), labels=("a", "b"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_command_that_is_ended_half_way_leaves_nothing(native, tmp_path, monkeypatch, capsys, number):
    """By Ctrl-C, `kill` or `timeout`, or a closed terminal; and again, impatiently, while it tidies up."""
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    handler = signal.getsignal(number)

    def ended(*arguments):
        assert list(tmp_path.glob(".out.*.part"))
        os.kill(os.getpid(), number)
        time.sleep(60)  # the signal ends it

    def again(folder, *arguments, **more):
        os.kill(os.getpid(), number)
        rmtree(folder, *arguments, **more)

    rmtree = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", again)
    monkeypatch.setattr("vit_convert.save.write_tensors", ended)
    assert run(native, tmp_path / "out", "--to", "flax") == 128 + number
    assert capsys.readouterr().err == f"vit-convert: ended by {number.name}; nothing was left behind\n"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [native]
    assert signal.getsignal(number) == handler


def test_a_command_that_outlives_its_terminal_is_left_alone(native, tmp_path, monkeypatch):
    """`nohup` has SIGHUP ignored: that stays."""
    from vit_convert.save import write_tensors

    def hung_up(*arguments):
        os.kill(os.getpid(), signal.SIGHUP)
        write_tensors(*arguments)

    monkeypatch.setattr("vit_convert.save.write_tensors", hung_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(native, tmp_path / "out", "--to", "flax") == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_more_than_the_memory_holds_is_one_message_and_leaves_nothing(native, tmp_path, monkeypatch, capsys):
    """As NumPy says of --image-size 1600000; a test that asks for it would be killed where memory is overcommitted."""

    def too_large(*arguments):
        raise MemoryError("Unable to allocate 14.0 TiB for an array")

    monkeypatch.setattr("vit_convert.save.write_tensors", too_large)
    error = fails(capsys, native, tmp_path / "out", "--to", "flax")
    assert error == "vit-convert: error: not enough memory: Unable to allocate 14.0 TiB for an array\n"
    assert list(tmp_path.iterdir()) == [native]


def test_a_bug_of_ours_keeps_its_traceback(native, monkeypatch):
    monkeypatch.setattr("vit_convert.checkpoint.open_checkpoint", lambda *args, **kwargs: int("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        run("inspect", native)


def test_the_command_runs_and_its_help_answers_at_once():
    """Half a second is the promise for an idle machine; the best of several runs is what a busy one can tell."""
    root, command = Path(__file__).resolve().parent.parent, [sys.executable, "-m", "vit_convert"]
    seconds = []
    while len(seconds) < 6 and min(seconds, default=1) >= 0.5:
        start = time.perf_counter()
        done = subprocess.run([*command, "--help"], cwd=root, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
        assert "vit-convert inspect SRC" in done.stdout
    assert min(seconds) < 0.5
    done = subprocess.run([*command, "inspect", "gone"], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "vit-convert: error: gone: no such file or directory\n")
