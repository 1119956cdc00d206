"""What goes wrong with a file is one clear error, and nothing is left behind, whatever the format."""

import builtins
import errno
import io
import json
import os
import pickle
import resource
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from parity_tests.strategies import random_tensors
from parity_tests.test_files import TENSORS, assert_same, read_all, specs_of
from vit_convert.beside import beside
from vit_convert.checkpoint import save_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.files import open_tensors, write_tensors
from vit_convert.files.msgpack import array_head, binary_head, ext_head, integer, map_head, text
from vit_convert.place import directory

SUFFIXES = (".safetensors", ".npz", ".msgpack")  # of the formats that are written
READ = (*SUFFIXES, ".pt", ".pth", ".bin")


def failing(tensors):
    yield next(iter(tensors.items()))
    raise RuntimeError("the disk is on fire")


TRANSPOSED = {"a": TENSORS["a"].T.copy().T}
NOT_THOSE = "^the tensors that came are not those that were to be written\n  "
BAD_STREAMS = {
    "missing": (
        lambda: list(TENSORS.items())[1:],
        NOT_THOSE + "1 missing:\n    a",
    ),
    "unexpected": (lambda: [*TENSORS.items(), ("z", np.zeros(2))], "1 unexpected:\n    z"),
    "twice": (lambda: [*TENSORS.items(), ("a", TENSORS["a"])], "a comes twice"),
    "misshapen": (lambda: (TENSORS | {"a": np.zeros((4, 3), np.float32)}).items(), "a: expected .3, 4., got .4, 3."),
    "not contiguous": (lambda: (TENSORS | TRANSPOSED).items(), "a: only C-contiguous"),
    "of another dtype": (lambda: (TENSORS | {"a": np.zeros((3, 4))}).items(), "a: expected float32, got float64"),
    "failing": (lambda: failing(TENSORS), "the disk is on fire"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("stream", "message"), BAD_STREAMS.values(), ids=BAD_STREAMS)
def test_a_stream_that_goes_wrong_leaves_nothing_behind(tmp_path, stream, message, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"the one before")
    with pytest.raises((CheckpointError, RuntimeError), match=message):
        write_tensors(path, specs_of(TENSORS), stream(), {})
    assert path.read_bytes() == b"the one before"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_two_that_write_a_file_at_once_leave_one_of_them_whole(tmp_path, first_ends_first):
    """Threads have their process's number, and containers on one disk may all be process 1."""
    path = tmp_path / "a.json"
    first, second = beside(path), beside(path)
    places = [first.__enter__(), second.__enter__()]
    for place, content in zip(places, ("first", "the second"), strict=True):
        place.write_text(content)
    for one in (first, second) if first_ends_first else (second, first):
        one.__exit__(None, None, None)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [
        ("a.json", "the second" if first_ends_first else "first")
    ]


LARGE = {name: np.random.default_rng(0).standard_normal((300, 300)) for name in ("a", "b", "c")}


class FullDisk(io.FileIO):
    """A file on a disk that takes 1 MB."""

    left = 10**6

    def write(self, data) -> int:
        if self.left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = super().write(bytes(data)[: self.left])
        self.left -= written
        return written


@contextmanager
def full_disk() -> Iterator[None]:
    """Every file that is written beside its name fills up."""
    plain = builtins.open

    def opening(path, mode="r", *args, **more):
        if "w" in mode and Path(path).name.startswith("."):
            return io.BufferedWriter(FullDisk(path, "w"))
        return plain(path, mode, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", opening)
        yield


@contextmanager
def small_files() -> Iterator[None]:
    """No file of this process may be larger than 1 MB: the operating system refuses it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


DISKS = {"full": (full_disk, "No space left on device"), "of small files": (small_files, "File too large")}


@pytest.mark.parametrize(("disk", "reason"), DISKS.values(), ids=DISKS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_fills_up_is_one_clear_error_and_leaves_nothing(tmp_path, suffix, disk, reason):
    refused = pytest.raises(CheckpointError, match=f"^{tmp_path}/model: can't be written: {reason}$")
    with disk(), refused, directory(tmp_path / "model") as folder:
        write_tensors(folder / f"a{suffix}", specs_of(LARGE), LARGE.items(), {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("disk", "reason"), DISKS.values(), ids=DISKS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_fills_up_leaves_the_file_that_was_there(tmp_path, suffix, disk, reason):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"the one before")
    with disk(), pytest.raises(OSError, match=reason):
        write_tensors(path, specs_of(LARGE), LARGE.items(), {})
    assert path.read_bytes() == b"the one before"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    write_tensors(path, specs_of(LARGE), LARGE.items(), {})  # on a disk with room
    assert_same(read_all(path), LARGE)


def test_a_disk_that_fills_up_leaves_no_checkpoint(tmp_path):
    config = ViTConfig(image_size=8, patch_size=4, dim=160, depth=2, num_heads=4, mlp_dim=640)
    tensors = random_tensors(config)
    with full_disk(), pytest.raises(CheckpointError, match=r"can't be written: No space left on device$"):
        save_checkpoint(tmp_path / "model", config, tensors.items())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_anywhere_is_one_clear_error(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_tensors(path, specs_of(TENSORS), TENSORS.items(), {})
    whole = path.read_bytes()
    for keep in (*range(0, len(whole), 11), len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(CheckpointError, match=rf"a\{suffix}: truncated or not a"):
            read_all(path)


@pytest.mark.parametrize("content", [b"", b"GIF89a", bytes(4096), b"\xff" * 4096, pickle.dumps({"a": [1]})], ids=len)
@pytest.mark.parametrize("suffix", READ)
def test_a_file_of_another_kind_is_one_clear_error(tmp_path, suffix, content):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"a\{suffix}: truncated or no"):
        open_tensors(path)


def empty_npz(path, shape):
    with zipfile.ZipFile(path, "w") as archive, archive.open("a.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})


def empty_safetensors(path, shape):
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": (0, 0)}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def empty_msgpack(path, shape):
    array = array_head(3) + array_head(len(shape)) + b"".join(map(integer, shape)) + text("float32") + binary_head(0)
    path.write_bytes(map_head(1) + text("a") + ext_head(1, len(array)) + array)


EMPTY = {".safetensors": empty_safetensors, ".npz": empty_npz, ".msgpack": empty_msgpack}


@pytest.mark.parametrize("shape", [(0, 2**40, 2**40), (0,) * 65], ids=["too large", "too many axes"])
@pytest.mark.parametrize("suffix", EMPTY)
def test_a_shape_that_no_array_has_is_one_clear_error(tmp_path, suffix, shape):
    """Without bytes it fits into any file."""
    path = tmp_path / f"a{suffix}"
    EMPTY[suffix](path, (0, 2**40))
    assert open_tensors(path).read("a").shape == (0, 2**40)
    EMPTY[suffix](path, shape)
    with pytest.raises(CheckpointError, match=rf"a\{suffix}: damaged, for no array has these shapes: a \(0, "):
        open_tensors(path)


def test_a_size_that_is_no_number_is_one_clear_error(tmp_path):
    array = array_head(3) + array_head(1) + b"\xc3" + text("int8") + binary_head(1) + b"x"  # True
    (tmp_path / "a.msgpack").write_bytes(map_head(1) + text("a") + ext_head(1, len(array)) + array)
    with pytest.raises(CheckpointError, match=r"truncated or not a Flax msgpack file \(an array's shape has True\)$"):
        open_tensors(tmp_path / "a.msgpack")


@pytest.mark.parametrize("suffix", READ)
def test_a_file_that_may_not_be_read_is_one_clear_error(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.symlink_to("/proc/self/mem")  # there, and not readable from its beginning
    with pytest.raises(CheckpointError, match=rf"a\{suffix}: can't be read \(.*Input/output error"):
        open_tensors(path)


@pytest.mark.parametrize("name", ["model.safetensors", "model.npz", "model.msgpack", "model.pth"])
def test_a_git_lfs_pointer_is_named(tmp_path, name):
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(CheckpointError, match=f"{name}: a Git LFS pointer, not the weights themselves: fetch them"):
        open_tensors(tmp_path)
