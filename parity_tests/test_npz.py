"""npz: what NumPy writes is read, mapped or inflated, what is written NumPy reads; objects stay closed."""

import pickle
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity_tests.test_files import TENSORS, Bomb, assert_same, read_all, specs_of
from vit_convert.errors import CheckpointError
from vit_convert.files import npz, open_tensors
from vit_convert.files.npz import DTYPES, write_npz

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*/*.npz"))
GOLDEN = [path for path in GOLDEN if path.with_suffix(".json").is_file()]
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\\"), min_size=1)


def as_numpy(tensors):
    """What `np.load` gives: bfloat16 comes back as two bytes of no kind."""
    return {n: a.view("V2") if a.dtype == ml_dtypes.bfloat16 else a for n, a in tensors.items()}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read_bit_for_bit(tmp_path, save):
    tensors = {f"params/{name}": array for name, array in TENSORS.items()}
    save(tmp_path / "a.npz", **tensors)
    assert_same(read_all(tmp_path / "a.npz"), tensors)


def test_numpy_reads_what_is_written_and_its_own_members_are_the_same_bytes(tmp_path):
    write_npz(tmp_path / "a.npz", specs_of(TENSORS), TENSORS.items())
    np.savez(tmp_path / "b.npz", **TENSORS)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert_same(dict(found), as_numpy(TENSORS))
    with zipfile.ZipFile(tmp_path / "a.npz") as ours, zipfile.ZipFile(tmp_path / "b.npz") as theirs:
        assert ours.testzip() is None
        assert [(n, ours.read(n)) for n in ours.namelist()] == [(n, theirs.read(n)) for n in theirs.namelist()]


@settings(max_examples=30)
@given(
    st.dictionaries(
        NAMES, st.tuples(st.sampled_from(sorted(DTYPES, key=str)), st.lists(st.integers(0, 4), max_size=4)), max_size=5
    ),
    st.randoms(use_true_random=False),
)
def test_any_arrays_come_back_in_any_order(tmp_path_factory, drawn, random):
    rng = np.random.default_rng(0)
    tensors = {
        name: rng.integers(0, 2, (*shape, dtype.itemsize), np.uint8).view(dtype).reshape(shape)
        for name, (dtype, shape) in drawn.items()
    }
    path = tmp_path_factory.mktemp("any") / "any.npz"
    stream = list(tensors.items())
    random.shuffle(stream)
    write_npz(path, specs_of(tensors), stream)
    assert_same(read_all(path), tensors)
    with np.load(path, allow_pickle=False) as found:
        assert_same(dict(found), as_numpy(tensors))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_fortran_order_is_turned_around(tmp_path, save):
    values = np.random.default_rng(0).standard_normal((4, 5, 3, 2))
    arrays = {f"{dtype}{ndim}": np.asfortranarray(values[(0,) * (4 - ndim)].astype(dtype))
              for dtype in ("float32", "bfloat16") for ndim in (2, 3, 4)}  # fmt: skip
    save(tmp_path / "a.npz", **arrays)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert all(b"'fortran_order': True" in archive.read(name) for name in archive.namelist())
    found = read_all(tmp_path / "a.npz")
    assert_same(found, arrays)
    assert all(array.flags.c_contiguous for array in found.values())


def test_stored_arrays_are_mapped_and_the_file_never_changes(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path, specs_of(TENSORS), TENSORS.items())
    before = path.read_bytes()
    file = open_tensors(path)
    for name in ("a", "b", "c", "d"):
        array = file.read(name)
        assert array.base is not None  # a view of the mapping, not a copy: what is written lies aligned
        assert array.flags.aligned
        array[...] = 7
    assert path.read_bytes() == before


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_writable_and_aligned_wherever_they_lie(tmp_path, save):
    save(tmp_path / "a.npz", **{"n" * i: np.ones(5) for i in range(1, 9)})
    for array in read_all(tmp_path / "a.npz").values():
        assert array.flags.aligned
        array[...] = 7


def test_members_of_more_than_four_gigabytes_have_zip64_sizes(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "ZIP64", 0)  # every member counts as one
    write_npz(tmp_path / "a.npz", specs_of(TENSORS), TENSORS.items())
    content = (tmp_path / "a.npz").read_bytes()
    assert struct.unpack("<II", content[18:26]) == (0xFFFFFFFF, 0xFFFFFFFF)  # the first member's sizes: see elsewhere
    assert_same(read_all(tmp_path / "a.npz"), TENSORS)
    assert open_tensors(tmp_path / "a.npz").read("a").base is not None  # aligned still
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert_same(dict(found), as_numpy(TENSORS))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_objects_are_refused_by_name_and_never_unpickled(tmp_path, save):
    bomb = Bomb()
    bomb.fuse = str(tmp_path / "exploded")
    objects = np.array([bomb], dtype=object)
    save(tmp_path / "a.npz", fine=np.ones(2), bomb=objects, allow_pickle=True)
    with pytest.raises(CheckpointError, match=r"a\.npz: these are not read: bomb \(objects, which are pickles"):
        open_tensors(tmp_path / "a.npz")
    assert not (tmp_path / "exploded").exists()
    pickle.loads(pickle.dumps(bomb))  # it would have
    assert (tmp_path / "exploded").exists()


def test_dtypes_that_no_weights_have_are_refused_and_all_are_named(tmp_path):
    odd = {
        "text": np.array(["x"]),
        "z": np.zeros(2, complex),
        "big": np.zeros(2, ">f4"),
        "fields": np.zeros(2, "f4,i4"),
    }
    np.savez(tmp_path / "a.npz", fine=np.ones(2), **odd)
    message = r"not read: text \(<U1\), z \(complex128\), big \(>f4\), fields \(\[\('f0'"
    with pytest.raises(CheckpointError, match=message):
        open_tensors(tmp_path / "a.npz")


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, complex])
def test_a_dtype_that_npz_has_not_is_refused(tmp_path, dtype):
    tensors = {"a": np.zeros(2, dtype)}
    with pytest.raises(CheckpointError, match=f"npz has no such dtype or name: a {tensors['a'].dtype}"):
        write_npz(tmp_path / "a.npz", specs_of(tensors), tensors.items())
    assert not list(tmp_path.iterdir())


def test_a_name_that_a_zip_cuts_off_is_refused(tmp_path):
    tensors = {"a\0b": np.zeros(2)}
    with pytest.raises(CheckpointError, match=r"no such dtype or name: 'a\\x00b'"):
        write_npz(tmp_path / "a.npz", specs_of(tensors), tensors.items())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_truncated_npz_is_one_clear_error(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, **TENSORS)
    whole = path.read_bytes()
    for keep in (0, 1, 30, 99, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(CheckpointError, match=r"a\.npz: truncated or not an npz file"):
            open_tensors(path)


def _repack(path, change):
    """Writes the arrays anew, each member's bytes changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(*change(name, content))


CHANGES = {
    "no array": lambda name, content: ("readme.txt", b"hello"),
    "no magic": lambda name, content: (name, b"x" + content[1:]),
    "too few bytes": lambda name, content: (name, content[:-1]),
    "too many bytes": lambda name, content: (name, content + b"x"),
    "an unknown version": lambda name, content: (name, content[:6] + b"\x09" + content[7:]),
    "negative sizes": lambda name, content: (name, content.replace(b"(3, 4)", b"(-3, -4)").replace(b"}  ", b"}")),
    "code in its header": lambda name, content: (name, content.replace(b"(3, 4)", b"exit()")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_member_that_is_no_array_is_one_clear_error(tmp_path, change):
    np.savez(tmp_path / "a.npz", a=TENSORS["a"])
    _repack(tmp_path / "a.npz", change)
    with pytest.raises(CheckpointError, match=r"a\.npz: truncated or not an npz file"):
        open_tensors(tmp_path / "a.npz")


HEADERS = {
    "a key that is a list": b"{[]: 1}",
    "keys of two types": b"{'descr': '<f4', 'fortran_order': False, 3: (6,)}",
    "no end": b"{'descr': '<f4', 'fortran_order': False, 'shape': (6,)",
    "a text without end": b"'''",
    "lines that lean out": b"  x\n y",
    "a number of no base": b"{'descr': '<04', 'fortran_order': False, 'shape': (6,)}",
    "a dtype of nothing": b"{'descr': ((), ()), 'fortran_order': False, 'shape': (6,)}",
    "a size that is no number": b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 6)}",
    "too much in one another": b"-" * 9000,
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("version", [1, 2])
def test_a_damaged_header_of_an_array_is_one_clear_error(tmp_path, header, version):
    """NumPy reads it as Python's literals, and raises what its parsers raise."""
    head = b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(2 * version, "little")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", head + header + bytes(24))
    with pytest.raises(CheckpointError, match=r"a\.npz: truncated or not an npz file"):
        open_tensors(tmp_path / "a.npz")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_numpy_never_writes_is_one_clear_error(tmp_path, method):
    np.savez_compressed(tmp_path / "a.npz", a=TENSORS["a"])
    content = (tmp_path / "a.npz").read_bytes()
    found = content.replace(struct.pack("<HH", 0, 8), struct.pack("<HH", 0, method))  # flags, method
    assert found != content
    (tmp_path / "a.npz").write_bytes(found)
    with pytest.raises(CheckpointError, match=rf"a\.npy is compressed by method {method}, NumPy writes 0 and 8"):
        open_tensors(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 not at all", pickle.dumps({"a": [1]})])
def test_a_file_that_is_no_npz_is_one_clear_error(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.npz: truncated or not an npz file"):
        open_tensors(tmp_path / "a.npz")


def test_corrupt_compressed_data_is_one_clear_error_when_it_is_read(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.random.default_rng(0).standard_normal(10_000))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    file = open_tensors(path)
    with pytest.raises(CheckpointError, match=r"a\.npz: a\.npy is corrupt"):
        file.read("a")


def test_compressed_data_that_end_before_their_size_are_one_clear_error_when_they_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (40,)})
        file.write(np.ones(20).tobytes())
    size, claimed = (struct.pack("<I", 128 + 8 * count) for count in (20, 40))
    content = (tmp_path / "a.npz").read_bytes()
    assert content.count(size) == 2  # in the member's own header and in the directory
    (tmp_path / "a.npz").write_bytes(content.replace(size, claimed))
    file = open_tensors(tmp_path / "a.npz")
    assert file.shapes == {"a": (40,)}
    with pytest.raises(CheckpointError, match=r"a\.npz: a\.npy is corrupt \(320 bytes expected, 160 are there\)"):
        file.read("a")


@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile's, on writing
def test_a_name_that_is_there_twice_is_one_clear_error(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones(2))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("a.npy", archive.read("a.npy"))
    with pytest.raises(CheckpointError, match=r"not an npz file \(a name is there twice\)"):
        open_tensors(tmp_path / "a.npz")


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_golden_npz_files_are_read_as_numpy_reads_them(path):
    with np.load(path, allow_pickle=False) as expected:
        assert_same({n: a.view("V2") if a.dtype.name == "bfloat16" else a for n, a in read_all(path).items()}, expected)
