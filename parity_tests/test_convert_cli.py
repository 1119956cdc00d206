"""vit-convert: converts and inspects; what a user does wrong is one message, exit code 2, and nothing half-written."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from parity_tests.strategies import random_tensors
from vit_convert import __main__ as cli
from vit_convert.checkpoint import open_checkpoint, save_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess

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
    assert len(lines) == 3 + len(facts["config"]) + 2


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
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == sorted(
        ["flax", "native", "timm", "transformers"]
    )


def test_the_command_words_are_reserved(capsys, monkeypatch, native):
    assert cli.RESERVED == ("inspect", "formats")
    native.rename(native.parent / "inspect")
    native.mkdir()
    monkeypatch.chdir(native.parent)
    with pytest.raises(SystemExit) as stop:
        run("inspect", "out", "--to", "flax")
    assert stop.value.code == 2
    assert "unrecognized arguments: --to flax" in capsys.readouterr().err
    assert run("./inspect", "out", "--to", "flax") == 0


def missing_file(native, tmp_path):
    return (tmp_path / "gone", tmp_path / "out", "--to", "flax"), r"gone: no such file or directory"


def truncated(native, tmp_path):
    weights = native / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return (native, tmp_path / "out", "--to", "flax"), "model.safetensors: truncated or not a safetensors file"


def wrong_layout(native, tmp_path):
    known = "the layouts are flax, native, timm, transformers"
    return (native, tmp_path / "out", "--to", "keras"), f"unknown layout 'keras'; {known}"


def existing(native, tmp_path):
    (tmp_path / "out").mkdir()
    return (native, tmp_path / "out", "--to", "flax"), "out exists; choose another name, or overwrite it (--overwrite"


def misshapen(native, tmp_path):
    wrong = TENSORS | {"norm.weight": np.zeros(23, np.float32), "extra": np.zeros(1, np.float32)}
    del wrong["cls_token"]
    safetensors.numpy.save_file(wrong, native / "model.safetensors")
    missing, unexpected = "cls_token (1, 1, 24)\n", "  1 unexpected:\n    extra (1,)\n"
    lists = f"{missing}{unexpected}  1 misshapen:\n    norm.weight: expected (24,), got (23,)"
    return (native, tmp_path / "out", "--to", "flax"), lists


def no_parent(native, tmp_path):
    return (native, tmp_path / "a" / "b", "--to", "flax"), "a doesn't exist"


def same(native, tmp_path):
    return (native, native, "--to", "flax", "--overwrite"), "SRC and DST are the same"


def not_held(native, tmp_path):
    args = (native, tmp_path / "out", "--to", "timm", "--set", "norm_eps=1e-12")
    return args, "layout timm can't hold this model:\n  norm 'layer', norm_eps 1e-12"


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
    return ("inspect", native, "--set", "eps=1"), "--set needs field=value, got 'eps=1'; the fields are image_size"


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


def other_model(native, tmp_path):
    (native / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return ("inspect", native), "config.json is of layout transformers, the names are timm's"


def no_vit(native, tmp_path):
    safetensors.numpy.save_file({"conv1.weight": np.zeros(3)}, tmp_path / "resnet.safetensors")
    return ("inspect", tmp_path / "resnet.safetensors"), "no known layout (flax, native, timm, transformers) has"


MISTAKES = (
    missing_file, truncated, wrong_layout, existing, misshapen, no_parent, same, not_held, other_files, unknown_field,
    bad_value, contradiction, newer, broken_json, other_model, no_vit,
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
    assert open_checkpoint(tmp_path / "out").layout == "timm"
    assert files(tmp_path / "out") == ["config.json", "model.safetensors"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_failure_while_writing_loses_nothing(native, tmp_path, overwrite):
    """The stream breaks in the middle; what was there before is there, and nothing else."""
    out = native if overwrite else tmp_path / "out"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def breaks():
        yield from list(TENSORS.items())[:5]
        raise OSError("no space left on device")

    dtypes = {name: array.dtype for name, array in TENSORS.items()}
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(out, CONFIG, breaks(), dtypes=dtypes, overwrite=overwrite)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [native]


def test_a_checkpoint_may_be_saved_over_the_one_it_is_read_from(native):
    found = open_checkpoint(native)
    save_checkpoint(native, CONFIG, found.tensors(), dtypes=found.dtypes, overwrite=True)
    again = dict(open_checkpoint(native).tensors())
    assert all(again[name].tobytes() == array.tobytes() for name, array in TENSORS.items())


def test_resizing_on_the_way_touches_the_patch_rows_alone(native):
    from vit_convert.positions import resize_matrix

    found = open_checkpoint(native, image_size=(10, 9))
    assert open_checkpoint(native, image_size=(6, 9)).said == ()
    assert found.said == ("positions resized from (3, 3) to (5, 3) by bicubic",)
    assert (found.config.grid, found.sources["image_size"]) == ((5, 3), "given")
    tensors, table = dict(found.tensors()), TENSORS["pos_embed"]
    rows = np.einsum("ai,ijd->ajd", resize_matrix(3, 5, "bicubic"), table[0, 1:].reshape(3, 3, 24).astype(np.float64))
    assert np.array_equal(tensors["pos_embed"][0, 0], table[0, 0])
    assert np.abs(tensors["pos_embed"][0, 1:] - rows.reshape(15, 24)).max() < 1e-6
    assert all(np.array_equal(tensors[name], TENSORS[name]) for name in TENSORS if name != "pos_embed")


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
