"""Flax msgpack: what Flax writes is read without loading it, what is written Flax restores, to the byte."""

from pathlib import Path

import ml_dtypes
import msgpack
import numpy as np
import pytest
from flax import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from parity_tests.test_files import TENSORS, assert_same, read_all, specs_of
from vit_convert.errors import CheckpointError
from vit_convert.files import DTYPES, flax_msgpack, open_tensors
from vit_convert.files.flax_msgpack import write_msgpack

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*/*.msgpack"))
NESTED = {f"params/{'abc'[i % 3]}/{name}": array for i, (name, array) in enumerate(TENSORS.items())}
KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), max_size=40)


def nest(tensors):
    tree = {}
    for name, array in tensors.items():
        *folders, leaf = name.split("/")
        inner = tree
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[leaf] = array
    return tree


def flatten(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}/")
        else:
            yield prefix + key, value


def opened(tmp_path, tree):
    (tmp_path / "a.msgpack").write_bytes(serialization.to_bytes(tree))
    return open_tensors(tmp_path / "a.msgpack")


def assert_written_as_flax_does(path, tensors):
    content = path.read_bytes()
    assert content == serialization.to_bytes(nest(tensors))
    assert_same(dict(flatten(serialization.msgpack_restore(content))), tensors)


def test_what_flax_writes_is_read_bit_for_bit(tmp_path):
    file = opened(tmp_path, nest(NESTED))
    assert_same({name: file.read(name) for name in file.specs}, NESTED)
    assert file.said == ()


def test_flax_restores_what_is_written_and_would_write_the_same_bytes(tmp_path):
    write_msgpack(tmp_path / "a.msgpack", specs_of(NESTED), reversed(NESTED.items()))
    assert_written_as_flax_does(tmp_path / "a.msgpack", NESTED)


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.tuples(KEYS, KEYS) | st.tuples(KEYS),
        st.tuples(st.sampled_from(list(DTYPES.values())), st.lists(st.integers(0, 40), max_size=3)),
        max_size=20,
    ),
    st.randoms(use_true_random=False),
)
def test_any_arrays_come_back_in_any_order(tmp_path_factory, drawn, random):
    folders = {keys[0] for keys in drawn if len(keys) > 1}
    rng = np.random.default_rng(0)
    tensors = {
        "/".join(keys): rng.integers(0, 2, (*shape, dtype.itemsize), np.uint8).view(dtype).reshape(shape)
        for keys, (dtype, shape) in drawn.items()
        if len(keys) > 1 or keys[0] not in folders
    }
    path = tmp_path_factory.mktemp("any") / "any.msgpack"
    stream = list(tensors.items())
    random.shuffle(stream)
    write_msgpack(path, specs_of(tensors), stream)
    assert_same(read_all(path), tensors)
    assert_written_as_flax_does(path, tensors)


@pytest.mark.parametrize("count", [15, 16, pytest.param(66_000, marks=pytest.mark.slow)])
def test_dicts_of_every_size_come_back(tmp_path, count):
    tensors = {f"a/{i}": np.array(i % 100, np.int8) for i in range(count)}
    write_msgpack(tmp_path / "a.msgpack", specs_of(tensors), tensors.items())
    assert_written_as_flax_does(tmp_path / "a.msgpack", tensors)
    assert len(open_tensors(tmp_path / "a.msgpack").specs) == count


@pytest.mark.parametrize("limit", [1, 8, 20, 47])
def test_large_arrays_are_cut_into_chunks_as_flax_cuts_them(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", limit)
    monkeypatch.setattr(flax_msgpack, "MAX_CHUNK", limit)
    write_msgpack(tmp_path / "a.msgpack", specs_of(NESTED), NESTED.items())
    assert flax_msgpack.CHUNKED.encode() in (tmp_path / "a.msgpack").read_bytes()
    assert_written_as_flax_does(tmp_path / "a.msgpack", NESTED)
    assert_same(read_all(tmp_path / "a.msgpack"), NESTED)


def test_the_limit_of_a_chunk_is_flax_s_own():
    assert flax_msgpack.MAX_CHUNK == serialization.MAX_CHUNK_SIZE


def test_what_is_no_array_is_said_and_left_out(tmp_path):
    state = {
        "step": 7,
        "params": {"kernel": np.ones((2, 3), np.float32)},
        "opt_state": {"0": {"count": np.int32(5), "nothing": None, "empty": {}}, "1": {}},
        "metadata": {"name": "vit", "loss": 0.5, "done": False, "z": 1j, "raw": b"xy"},
        "rates": [np.zeros(2), -40, -1000, 2**40],
    }
    file = opened(tmp_path, state)
    expected = {
        "params/kernel": state["params"]["kernel"],
        "opt_state/0/count": np.array(5, np.int32),
        "rates/0": np.zeros(2),
    }
    assert_same({name: file.read(name) for name in file.specs}, expected)
    others = ["step", "opt_state/0/nothing", "opt_state/0/empty", "opt_state/1"]
    others += [f"metadata/{key}" for key in state["metadata"]] + [f"rates/{i}" for i in (1, 2, 3)]
    assert file.said == (f"left out what is no array: {', '.join(others[:10])}, and 2 more",)


def test_reading_is_lazy_and_never_changes_the_file(tmp_path):
    path = tmp_path / "a.msgpack"
    tensors = {"n" * i: np.ones(1000, np.float32) for i in range(1, 9)}
    write_msgpack(path, specs_of(tensors), tensors.items())
    before, file = path.read_bytes(), open_tensors(path)
    with open(path, "r+b") as writer:  # the mapping shows what is now on disk: nothing was copied when it was opened
        writer.write(before.replace(np.ones(1, np.float32).tobytes(), np.full(1, 7, np.float32).tobytes()))
    for name in tensors:
        array = file.read(name)
        assert (array == 7).all()
        assert array.flags.aligned
        array[...] = 5
    assert 5.0 not in np.frombuffer(path.read_bytes()[-4000:], np.float32)


@pytest.mark.parametrize("name", ["a/b", "a/b/c/d"])
def test_a_tensor_that_would_lie_in_another_is_refused(tmp_path, name):
    tensors = dict.fromkeys(["a/b/c", name], np.zeros(2))
    for order in (tensors, dict(reversed(tensors.items()))):
        with pytest.raises(CheckpointError, match="msgpack files nest by name: a/b"):
            write_msgpack(tmp_path / "a.msgpack", specs_of(order), order.items())
    assert not list(tmp_path.iterdir())


def test_dtypes_that_are_not_known_are_refused_by_name(tmp_path):
    with pytest.raises(CheckpointError, match=r"these dtypes are not read: a/z \(complex64\)"):
        opened(tmp_path, {"a": {"z": np.zeros(2, np.complex64), "fine": np.zeros(2)}})
    with pytest.raises(CheckpointError, match="no such dtype: z complex128"):
        write_msgpack(tmp_path / "b.msgpack", specs_of({"z": np.zeros(2, complex)}), [])


def test_a_truncated_file_is_one_clear_error_wherever_it_ends(tmp_path):
    path = tmp_path / "a.msgpack"
    tensors = {"a": np.ones(3), "b/c": np.ones((2, 2), ml_dtypes.bfloat16), "b/d": np.zeros(300, np.int8)}
    whole = serialization.to_bytes({**nest(tensors), "step": 1000})
    for keep in range(len(whole)):
        path.write_bytes(whole[:keep])
        with pytest.raises(CheckpointError, match=r"a\.msgpack: truncated or not a Flax msgpack file"):
            open_tensors(path)


def pack(value) -> bytes:
    packed = msgpack.packb(value, default=serialization._msgpack_ext_pack, strict_types=True)
    assert packed is not None
    return packed


def array(shape, dtype, data):
    return msgpack.ExtType(1, msgpack.packb((shape, dtype, data)))


def chunked(shape, *chunks):
    return {flax_msgpack.CHUNKED: True, "shape": {str(i): n for i, n in enumerate(shape)},
            "chunks": {str(i): chunk for i, chunk in enumerate(chunks)}}  # fmt: skip


BROKEN = {
    "no dict": pack([np.ones(2)]),
    "bytes behind it": pack({"a": np.ones(2)}) + b"\0",
    "a reserved byte": b"\xc1",
    "a number": b"\x07",
    "a safetensors file": (8).to_bytes(8, "little") + b"{}      ",
    "a key that is a list": b"\x81\x90\x01",
    "a key twice": b"\x82\xa1a\x01\xa1a\x02",
    "a name twice": pack({"a": {"b": np.ones(1)}, "a/b": np.ones(1)}),
    "too few bytes": pack({"a": array((3,), "float32", b"1234")}),
    "too many bytes": pack({"a": array((3,), "float32", b"1234" * 4)}),
    "a negative size": pack({"a": array((-1, -1), "float32", b"1234")}),
    "an array that is none": pack({"a": array(3, "float32", b"1234")}),
    "nesting without end": b"\x81\xa1a" * 5000 + b"\x01",
    "chunks that are missing": pack({"a": {flax_msgpack.CHUNKED: True, "shape": {"0": 1}, "chunks": {}}}),
    "chunks of another size": pack({"a": chunked((5,), np.ones(2), np.ones(2))}),
    "chunks of two dtypes": pack({"a": chunked((4,), np.ones(2), np.ones(2, np.int64))}),
    "chunks that are numbers": pack({"a": chunked((2,), 1, 2)}),
    "a shape that lacks a size": pack({"a": chunked((2,), np.ones(2)) | {"shape": {"1": 2}}}),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_none_is_one_clear_error(tmp_path, content):
    (tmp_path / "a.msgpack").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.msgpack: truncated or not a Flax msgpack file"):
        open_tensors(tmp_path / "a.msgpack")


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_golden_msgpack_files_are_read_as_flax_reads_them(path):
    restored = dict(flatten(serialization.msgpack_restore(path.read_bytes())))
    assert_same(
        read_all(path), {n: np.asarray(v) for n, v in restored.items() if isinstance(v, np.ndarray | np.generic)}
    )
