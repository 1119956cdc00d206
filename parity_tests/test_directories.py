"""A directory means one weights file: the preferred one, the only one, or the question which."""

import json

import numpy as np
import pytest
import torch

from parity_tests.test_files import specs_of
from vit_convert.errors import CheckpointError
from vit_convert.files import find_weights, open_tensors, write_tensors

PREFERRED = ["model.safetensors", "model.safetensors.index.json", "open_clip_model.safetensors"]
NAMED = ["pytorch_model.bin", "open_clip_pytorch_model.bin", "flax_model.msgpack", "model.npz", "model.msgpack"]
BESIDE = ["config.json", "preprocessor_config.json", "README.md", "tf_model.h5", "labels.txt"]


def touch(folder, *names):
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize(
    "name", [*PREFERRED, *NAMED, "pytorch_model.bin.index.json", "jx_vit.pth", "B_16.npz", "x.pt", "last.pth.tar"]
)
def test_the_only_weights_file_is_found_among_other_files(tmp_path, name):
    touch(tmp_path, *BESIDE, name)
    (tmp_path / "onnx.bin").mkdir()
    assert find_weights(tmp_path) == tmp_path / name


def test_safetensors_of_the_libraries_names_are_preferred_in_this_order(tmp_path):
    touch(tmp_path, *NAMED, "other.safetensors", "other.pth")
    for name in reversed(PREFERRED):
        touch(tmp_path, name)
        assert find_weights(tmp_path) == tmp_path / name


def test_names_of_the_libraries_are_preferred_to_others(tmp_path):
    touch(tmp_path, "training_args.bin", "scheduler.pt", "pytorch_model.bin")
    assert find_weights(tmp_path) == tmp_path / "pytorch_model.bin"


def test_a_shard_is_no_whole_model(tmp_path):
    touch(tmp_path, "model-00001-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"this one has model-00001-of-00002\.safetensors$"):
        find_weights(tmp_path)


@pytest.mark.parametrize("names", [["a.npz", "b.pth"], ["flax_model.msgpack", "pytorch_model.bin"]])
def test_several_with_nothing_to_choose_by_are_listed(tmp_path, names):
    touch(tmp_path, *BESIDE, *names)
    with pytest.raises(CheckpointError, match=f"which of these\\? Pass one of them: .*{'|'.join(names)}") as caught:
        find_weights(tmp_path)
    assert all(name in str(caught.value) for name in names)


def test_a_missing_file_and_a_directory_without_weights_are_clear(tmp_path):
    with pytest.raises(CheckpointError, match="no such file or directory"):
        open_tensors(tmp_path / "gone")
    touch(tmp_path, "notes.txt")
    with pytest.raises(CheckpointError, match=r"needs model\.safetensors, .* this one has notes\.txt$"):
        open_tensors(tmp_path)


def test_a_run_s_folder_is_told_where_its_checkpoint_is(tmp_path):
    with pytest.raises(CheckpointError, match=r"this one has nothing$"):
        open_tensors(tmp_path)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").touch()
    with pytest.raises(CheckpointError, match=f"has checkpoint; did you mean {tmp_path}/checkpoint\\?$"):
        open_tensors(tmp_path)


@pytest.mark.parametrize("name", ["model.npz", "flax_model.msgpack", "open_clip_model.safetensors"])
def test_what_is_found_is_read(tmp_path, name):
    tensors = {"a/b": np.arange(6, dtype=np.float32).reshape(2, 3)}
    write_tensors(tmp_path / name, specs_of(tensors), tensors.items(), {})
    assert (open_tensors(tmp_path).read("a/b") == tensors["a/b"]).all()


def test_shards_of_torch_s_format_read_as_one(tmp_path):
    state = {"a": torch.randn(2, 3), "b": torch.randn(4), "c": torch.randn(5).half()}
    files = {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}
    files["c"] = files["a"]
    for file in set(files.values()):
        torch.save({name: state[name] for name in state if files[name] == file}, tmp_path / file)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": files}))
    found = open_tensors(tmp_path)
    assert found.path == index
    assert set(found.specs) == set(state)
    assert all(torch.equal(torch.from_numpy(found.read(name)), tensor) for name, tensor in state.items())
