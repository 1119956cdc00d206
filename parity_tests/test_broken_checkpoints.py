"""A checkpoint whose tensors or config can't be is one message that names what is wrong, whatever it is."""

import itertools
import json

import numpy as np
import pytest
import safetensors.numpy

from parity_tests.converting import ASKED, CONFIG, TENSORS, fails, save_native
from parity_tests.strategies import random_tensors
from vit_convert.checkpoint import open_checkpoint, save_checkpoint
from vit_convert.errors import CheckpointError
from vit_convert.layouts import LAYOUTS

RICH = CONFIG.replace(num_registers=4, qk_norm=True, pre_logits=11)


@pytest.fixture
def native(tmp_path):
    return save_native(tmp_path)


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
