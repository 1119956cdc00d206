"""vit-convert converts: through every layout to the first bits again; what is asked on the way is done and said."""

import json
import os
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
from parity_tests.converting import ASKED, CONFIG, TENSORS, fails, files, run, save_native
from parity_tests.strategies import random_tensors
from parity_tests.tolerances import FLOAT32
from vit_convert.checkpoint import open_checkpoint, save_checkpoint
from vit_convert.errors import CheckpointError
from vit_convert.preprocess import Preprocess


@pytest.fixture
def native(tmp_path):
    return save_native(tmp_path)


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


def test_a_bare_file_is_asked_about_and_the_answers_suffice(native, tmp_path, capsys):
    bare = (native / "model.safetensors").rename(tmp_path / "bare.safetensors")
    error = fails(capsys, bare, tmp_path / "out", "--to", "flax")
    assert "nothing tells image_size, num_heads, pos_resize, rope, norm_eps, act, pool" in error
    assert "--set act=gelu|gelu_tanh|quick_gelu|silu" in error
    answers = [word for answer in ASKED for word in ("--set", answer)]
    assert run(bare, tmp_path / "out", "--to", "native", *answers) == 0
    assert open_checkpoint(tmp_path / "out").config == CONFIG


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


def test_overwriting_replaces_a_checkpoint(native, tmp_path):
    assert run(native, tmp_path / "out", "--to", "flax") == 0
    assert run(native, tmp_path / "out", "--to", "timm", "--overwrite") == 0
    assert open_checkpoint(tmp_path / "out").layout == "timm:vit"
    assert files(tmp_path / "out") == ["config.json", "model.safetensors"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


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
