"""Files: read lazily, written as a stream, complete or not there at all, and no pickle is ever executed."""

import json
import pickle
import re
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_convert.errors import CheckpointError
from vit_convert.files import DTYPES, Spec, open_tensors, write_safetensors, write_tensors

RNG = np.random.default_rng(0)
TENSORS = {
    "a": RNG.standard_normal((3, 4)).astype(np.float32),
    "b": RNG.standard_normal((2, 1, 5)).astype(np.float16),
    "c": RNG.standard_normal(7).astype(ml_dtypes.bfloat16),
    "d": RNG.integers(0, 99, (4, 2)),
    "e": np.array([True, False, True]),
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 3), np.float32),
}


def specs_of(tensors):
    return {name: Spec(array.shape, array.dtype) for name, array in tensors.items()}


def write(path, tensors, **more):
    write_safetensors(path, specs_of(tensors), tensors.items(), **more)
    return path


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


def read_all(path):
    file = open_tensors(path)
    return {name: file.read(name) for name in file.specs}


def test_safetensors_own_reader_reads_what_is_written(tmp_path):
    path = write(tmp_path / "a.safetensors", TENSORS, metadata={"format": "pt"})
    assert_same(safetensors.numpy.load_file(path), TENSORS)
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_what_safetensors_own_writer_writes_is_read(tmp_path):
    safetensors.numpy.save_file(TENSORS, tmp_path / "a.safetensors", metadata={"by": "them"})
    assert_same(read_all(tmp_path / "a.safetensors"), TENSORS)
    assert open_tensors(tmp_path / "a.safetensors").metadata == {"by": "them"}


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda name: name != "__metadata__"),
        st.tuples(
            st.sampled_from([d for d in DTYPES.values() if d.name[:6] != "float8"]),
            st.lists(st.integers(0, 4), max_size=4),
        ),
        max_size=5,
    ),
    st.randoms(use_true_random=False),
)
def test_any_tensors_come_back_in_any_order(tmp_path_factory, drawn, random):
    tensors = {
        name: np.frombuffer(RNG.bytes(int(np.prod(shape, dtype=int)) * dtype.itemsize), np.uint8)
        .view(dtype)
        .reshape(shape)
        for name, (dtype, shape) in drawn.items()
        if dtype != np.bool_
    }
    path = tmp_path_factory.mktemp("any") / "any.safetensors"
    stream = list(tensors.items())
    random.shuffle(stream)
    write_safetensors(path, specs_of(tensors), stream)
    assert_same(read_all(path), tensors)
    assert_same(safetensors.numpy.load_file(path), tensors)


def test_reading_is_lazy_and_never_changes_the_file(tmp_path):
    path = write(tmp_path / "a.safetensors", TENSORS)
    before = path.read_bytes()
    array = open_tensors(path).read("a")
    assert array.base is not None  # a view of the mapping, not a copy
    array[0] = 7  # writable, as torch asks of what it wraps
    assert path.read_bytes() == before
    assert_same(read_all(path), TENSORS)


def test_every_tensor_lies_aligned_whatever_came_before_it(tmp_path):
    odd = {f"{i}": np.zeros(3, dtype) for i, dtype in enumerate([np.int8, np.float64, np.float16, np.float32])}
    file = open_tensors(write(tmp_path / "a.safetensors", odd))
    assert all(file.read(name).flags.aligned for name in odd)


def test_large_tensors_begin_at_multiples_of_64_bytes_in_the_file(tmp_path):
    """Where they are written and mapped fastest; what has no such size comes behind them."""
    round_ones = {f"weight{i}": np.zeros((16, i + 1), np.float32) for i in range(3)}
    tensors = {"a": np.zeros(3, np.float32), **round_ones, "b": np.zeros(3, np.float32)}
    file = open_tensors(write(tmp_path / "a.safetensors", tensors, metadata={"format": "pt"}))
    assert all(file.read(name).ctypes.data % 64 == 0 for name in round_ones)  # a mapping begins at a page


def test_shards_read_as_one(tmp_path):
    first, second = ({n: TENSORS[n] for n in names} for names in ("ab", "cde"))
    write(tmp_path / "model-1.safetensors", first)
    write(tmp_path / "model-2.safetensors", second)
    files = dict.fromkeys(first, "model-1.safetensors") | dict.fromkeys(second, "model-2.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    assert_same(read_all(tmp_path), first | second)
    assert_same(read_all(index), first | second)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": "gone.safetensors"}, r"not beside it: gone\.safetensors"),
        ({"a": "n" * 300}, "not beside it: nnn"),
        ({"a": "../model-1.safetensors"}, r"not beside it: \.\./model-1\.safetensors"),
        (
            {"a": "model-1.safetensors", "z": "model-1.safetensors"},
            r"model-1\.safetensors: the tensors are not those that model\.safetensors\.index\.json lists\n"
            r"  1 missing:\n    z\n  1 unexpected:\n    b \(",
        ),
        ({"a": "model.safetensors.index.json"}, r"index\.json: an index, not a shard: a shard is a file of tensors"),
        (["a"], "needs a 'weight_map'"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path, files, message):
    write(tmp_path / "model-1.safetensors", {n: TENSORS[n] for n in "ab"})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    with pytest.raises(CheckpointError, match=message):
        open_tensors(tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_truncated_file_is_one_clear_error(tmp_path, keep):
    path = write(tmp_path / "a.safetensors", TENSORS)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"a\.safetensors: truncated or not a safetensors file"):
        open_tensors(path)


def test_a_corrupt_header_is_one_clear_error(tmp_path):
    path = write(tmp_path / "a.safetensors", TENSORS)
    path.write_bytes(path.read_bytes().replace(b'"data_offsets"', b'"data_onsets!"', 1))
    with pytest.raises(CheckpointError, match="truncated or not a safetensors file"):
        open_tensors(path)


@pytest.mark.parametrize("name", ["model.h5", "model.ckpt", "model"])
def test_other_formats_are_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"whatever")
    with pytest.raises(CheckpointError, match=r"not a format that is read; these are: \.safetensors"):
        open_tensors(tmp_path / name)


@pytest.mark.parametrize("suffix", ["pt", "pth", "bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_are_read_bit_for_bit(tmp_path, suffix, zipped):
    state = {
        "a": torch.randn(3, 4),
        "b": torch.randn(5).to(torch.bfloat16),
        "c": torch.randn(2, 3).half().T,
        "d": torch.tensor(3),
        "e": torch.tensor([True, False]),
    }
    path = tmp_path / f"model.{suffix}"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    found = read_all(path)
    for name, tensor in state.items():
        assert found[name].shape == tuple(tensor.shape)
        assert found[name].dtype.name == str(tensor.dtype).removeprefix("torch.")
        assert torch.equal(torch.from_numpy(found[name].astype(np.float64)), tensor.double())


class Bomb:
    fuse = ""

    def __reduce__(self):
        return (Path.touch, (Path(self.fuse),))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_never_executed(tmp_path, zipped):
    bomb, path = Bomb(), tmp_path / "model.pth"
    bomb.fuse = str(tmp_path / "exploded")
    torch.save({"a": bomb}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"model\.pth: holds objects other than tensors") as caught:
        open_tensors(path)
    assert not re.search(r"weights_only|\x1b|arbitrary", str(caught.value))
    assert not (tmp_path / "exploded").exists()
    pickle.loads(pickle.dumps(bomb))  # it would have
    assert (tmp_path / "exploded").exists()


def test_a_torchscript_archive_is_refused_as_what_it_is(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "model.pt", "a") as archive:
        archive.writestr("model/constants.pkl", b"")  # what tells it from a state dict
    with pytest.raises(CheckpointError, match="holds objects other than tensors, which are not executed"):
        open_tensors(tmp_path / "model.pt")


@pytest.mark.parametrize("suffix", ["pt", "pth", "bin"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not at all", b"hello", pickle.dumps({"a": [1]})])
def test_a_torch_file_that_is_none_is_one_clear_error(tmp_path, content, suffix):
    (tmp_path / f"model.{suffix}").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"model\.{suffix}: truncated or no torch file$"):
        open_tensors(tmp_path / f"model.{suffix}")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_torch_file_is_one_clear_error(tmp_path, zipped):
    path = tmp_path / "model.pt"
    torch.save({"a": torch.zeros(99)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for keep in (1, 20, 60, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(CheckpointError, match=r"model\.pt: truncated or no torch file$"):
            open_tensors(path)


def test_a_dtype_that_safetensors_has_not_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="a complex128"):
        write(tmp_path / "a.safetensors", {"a": np.zeros(2, complex)})
    assert not list(tmp_path.iterdir())


MEMORY = """
import resource, sys, tracemalloc
from vit_convert.checkpoint import open_checkpoint, save_checkpoint
tracemalloc.start()
source = open_checkpoint(sys.argv[1])
save_checkpoint(sys.argv[2], source.config, source.tensors(), dtypes=source.dtypes, layout="flax")
print(tracemalloc.get_traced_memory()[1])
"""


def test_converting_takes_the_memory_of_a_few_tensors(tmp_path):
    """A checkpoint of 123 MB, largest tensor 12 MB, transposed on its way."""
    from parity_tests.strategies import random_tensors
    from vit_convert.checkpoint import save_checkpoint
    from vit_convert.config import ViTConfig

    config = ViTConfig(image_size=32, patch_size=16, dim=1000, depth=3, num_heads=4, mlp_dim=3000)
    tensors = random_tensors(config)
    save_checkpoint(tmp_path / "native", config, tensors.items())
    total, largest = sum(a.nbytes for a in tensors.values()), max(a.nbytes for a in tensors.values())
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "native"), str(tmp_path / "flax")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert total > 100e6
    assert int(done.stdout) < 3 * largest < total / 3


@pytest.mark.parametrize("given", ["native", "flax"])
@pytest.mark.parametrize("to", ["native", "flax", "timm", "transformers"])
def test_saving_a_model_whose_dtypes_are_known_takes_the_memory_of_a_few_tensors(tmp_path, given, to):
    """57 MB, largest 7 MB; each array is made when it is asked for, as an accelerator hands out its own."""
    from vit_convert.checkpoint import layout_shapes, save_checkpoint
    from vit_convert.config import ViTConfig
    from vit_convert.layouts import LAYOUTS

    config = ViTConfig(image_size=32, patch_size=16, dim=600, depth=3, num_heads=4, mlp_dim=3000, num_classes=3)
    shapes = layout_shapes(LAYOUTS[given], config)
    sizes = [4 * int(np.prod(shape)) for shape in shapes.values()]
    stream = ((name, np.ones(shape, np.float32)) for name, shape in shapes.items())
    tracemalloc.start()
    save_checkpoint(
        tmp_path / "to", config, stream, tensors_layout=given, dtypes=dict.fromkeys(shapes, "float32"), layout=to
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * max(sizes) < sum(sizes) / 1.9


@pytest.mark.parametrize("suffix", ["safetensors", "npz", "msgpack", "compressed.npz", "pth"])
@pytest.mark.parametrize("to", ["safetensors", "npz", "msgpack"])
def test_moving_tensors_between_formats_takes_the_memory_of_one(tmp_path, suffix, to):
    """40 MB in ten tensors, of which one at a time is in memory."""
    tensors = {f"a/{i}": np.full((1000, 1000), i, np.float32) for i in range(10)}
    source = tmp_path / f"a.{suffix}"
    if suffix == "pth":
        torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, source)
    elif suffix == "compressed.npz":
        named: Any = tensors
        np.savez_compressed(source, **named)
    else:
        write_tensors(source, specs_of(tensors), tensors.items(), {})
    tracemalloc.start()
    file = open_tensors(source)
    write_tensors(tmp_path / f"b.{to}", file.specs, file.stream(reversed(list(file.specs))), {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.6 * 4e6  # the one that is written, the next one, and what inflates it
    assert_same(read_all(tmp_path / f"b.{to}"), tensors)
