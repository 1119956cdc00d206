"""Files are mapped: none is too large for the memory, and one that can't be mapped isn't called broken."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from vit_convert.files import open_tensors
from vit_convert.files.msgpack import array_head, binary_head, ext_head, map_head, text

A = np.arange(6, dtype=np.float32)
HUGE = 2**32 - 1  # bytes of the largest binary that msgpack has


def safetensors_of(path: Path, size: int) -> None:
    """`a`, and so many bytes more, none of which takes room on the disk."""
    ends = (0, A.nbytes, A.nbytes + size)
    entries = {
        "a": {"dtype": "F32", "shape": A.shape, "data_offsets": ends[:2]},
        "hole": {"dtype": "U8", "shape": (size,), "data_offsets": ends[1:]},
    }
    header = json.dumps(entries).encode()
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header + A.tobytes())
        file.truncate(file.tell() + size)


def npz_of(path: Path, size: int) -> None:
    """The same: what lies before a zip is none of it."""
    with open(path, "wb") as file:
        file.truncate(size)
    with zipfile.ZipFile(path, "a") as archive, archive.open("a.npy", "w") as file:
        np.lib.format.write_array(file, A)


def msgpack_of(path: Path, size: int) -> None:
    """The same, as binaries that are no arrays."""
    holes = -(-size // HUGE)
    array = array_head(3) + array_head(1) + bytes(A.shape) + text("float32") + binary_head(A.nbytes) + A.tobytes()
    with open(path, "wb") as file:
        file.write(map_head(1 + holes) + text("a") + ext_head(1, len(array)) + array)
        for i in range(holes):
            file.write(text(str(i)) + binary_head(HUGE))
            file.truncate(file.tell() + HUGE)
            file.seek(0, 2)


SPARSE = {".safetensors": safetensors_of, ".npz": npz_of, ".msgpack": msgpack_of}


def memory() -> int:
    """Bytes of RAM and swap."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return sum(int(lines[name].split()[0]) for name in ("MemTotal", "SwapTotal")) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone refuses such files")
@pytest.mark.parametrize("suffix", SPARSE)
def test_a_file_larger_than_ram_and_swap_is_read(tmp_path: Path, suffix: str):
    if Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2":
        pytest.skip("this system counts every mapping")
    path = tmp_path / f"a{suffix}"
    SPARSE[suffix](path, 2 * memory())
    found = open_tensors(path).read("a")
    np.testing.assert_array_equal(found, A)
    found[0] = 7  # writable still, as torch asks of what it wraps
    np.testing.assert_array_equal(open_tensors(path).read("a"), A)


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from vit_convert.errors import CheckpointError
from vit_convert.files import open_tensors

for path in sys.argv[2:]:
    open_tensors(path)
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[1]), resource.RLIM_INFINITY))
for path in sys.argv[2:]:
    try:
        open_tensors(path)
    except CheckpointError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_file_that_the_memory_does_not_suffice_for_is_not_called_broken(tmp_path: Path):
    """As under `ulimit -v` of a cluster. Read without that limit, the same files are whole."""
    size = 2**27
    for suffix, make in SPARSE.items():
        make(tmp_path / f"a{suffix}", size)
    for name, zipped in (("new.pth", True), ("old.pth", False)):
        torch.save({"a": torch.zeros(size // 4)}, tmp_path / name, _use_new_zipfile_serialization=zipped)
    paths = [*(tmp_path / f"a{suffix}" for suffix in SPARSE), tmp_path / "new.pth", tmp_path / "old.pth"]
    command = [sys.executable, "-c", LIMITED, str(size // 4), *map(str, paths)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    said = dict(zip(paths, ended.stdout.splitlines(), strict=True))
    for path in paths[: len(SPARSE)]:
        assert said[path].startswith(f"{path}: can't be mapped into memory (Cannot allocate memory")
    for path in paths[len(SPARSE) :]:
        assert said[path].startswith(f"{path}: not enough memory (")
        assert f"{size} bytes" in said[path] or f"{path.stat().st_size} bytes" in said[path]
        assert said[path].endswith("; more swap will do, or its state dict as .safetensors, which needs none")


def test_what_torch_s_loader_has_no_memory_for_is_not_called_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def too_large(*given: object, **more: object) -> None:
        raise MemoryError

    torch.save({"a": torch.zeros(3)}, tmp_path / "a.pth")
    monkeypatch.setattr(torch, "load", too_large)
    with pytest.raises(MemoryError, match=f"^{tmp_path}/a.pth can't be read$"):
        open_tensors(tmp_path / "a.pth")
