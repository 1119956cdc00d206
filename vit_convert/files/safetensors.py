"""safetensors: mapped when read; written as a stream, each tensor at its own place."""

import json
import mmap
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from vit_convert.errors import CheckpointError
from vit_convert.files.complete import complete, octets, pieces, promised
from vit_convert.files.mapped import mapped
from vit_convert.files.tensors import Spec, Tensors

# https://github.com/huggingface/safetensors#format: these names, little-endian, C order
DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
# Where tensors begin: an x86 kernel copies to an address that is no multiple of 64 in twice the time. The format
# wants a multiple of 8.
ALIGN = 64
POPULATE_READ = 22  # MADV_POPULATE_READ of Linux 5.14, which the mmap module has no name for


def write_safetensors(
    path: str | os.PathLike[str],
    specs: Mapping[str, Spec],
    tensors: Iterable[tuple[str, np.ndarray]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a stream of tensors, each at its own place in a file of known size, in whatever order they come.

    The file appears under its name only when it is complete; on failure nothing of it is left.

    Raises:
        CheckpointError: a dtype that safetensors doesn't know, or tensors that are missing, unexpected, twice
            there, or of another shape, dtype or memory order than their spec.
    """
    header, offsets, size = _header(specs, metadata or {})
    with complete(Path(path)) as file:
        file.write(header)
        file.truncate(len(header) + size)
        for name, array in promised(specs, tensors):
            file.seek(len(header) + offsets[name])
            file.writelines(pieces(octets(array)))


def _header(specs: Mapping[str, Spec], metadata: Mapping[str, str]) -> tuple[bytes, dict[str, int], int]:
    """The file's head, where each tensor begins behind it, and the size of them all."""
    unknown = [f"{name} {spec.dtype}" for name, spec in specs.items() if spec.dtype not in CODES]
    if unknown:
        raise CheckpointError(f"safetensors has no such dtype: {', '.join(unknown)}; it has {', '.join(DTYPES)}")
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    sizes = {name: prod(spec.shape) * spec.dtype.itemsize for name, spec in specs.items()}
    offsets, end = {}, 0
    # Keeps every tensor aligned to its own items, and the large ones, which have round sizes, to ALIGN.
    for name in sorted(specs, key=lambda name: (-specs[name].dtype.itemsize, sizes[name] % ALIGN > 0)):
        offsets[name], end = end, end + sizes[name]
        spec = specs[name]
        entries[name] = {"dtype": CODES[spec.dtype], "shape": spec.shape, "data_offsets": (offsets[name], end)}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % ALIGN)
    return len(text).to_bytes(8, "little") + text, offsets, end


def open_safetensors(path: Path) -> Tensors:
    try:
        with safe_open(path, framework="np"):  # its own reader validates the header and the size
            pass
    except MemoryError as error:
        raise CheckpointError(f"{path}: can't be mapped into memory ({error})") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: truncated or not a safetensors file ({error})") from None
    with open(path, "rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        entries: dict[str, Any] = json.loads(file.read(start - 8))
        memory = mapped(file)
    metadata = entries.pop("__metadata__", {})
    unread = [f"{name} {entry['dtype']}" for name, entry in entries.items() if entry["dtype"] not in DTYPES]
    if unread:
        raise CheckpointError(f"{path}: these dtypes are not read: {', '.join(unread)}")
    specs = {name: Spec(tuple(entry["shape"]), DTYPES[entry["dtype"]]) for name, entry in entries.items()}

    def read(name: str) -> np.ndarray:
        spec, offset = specs[name], start + entries[name]["data_offsets"][0]
        if not prod(spec.shape):
            return np.empty(spec.shape, spec.dtype)
        _bring(memory, offset, prod(spec.shape) * spec.dtype.itemsize)
        return np.frombuffer(memory, spec.dtype, prod(spec.shape), offset).reshape(spec.shape)

    return Tensors(path, specs, read, metadata)


def _bring(memory: mmap.mmap, offset: int, size: int) -> None:
    """Asks the kernel for a tensor's pages at once: read one by one, they cost the writer a fault each."""
    if sys.platform != "linux":
        return
    start = offset - offset % mmap.PAGESIZE
    with suppress(OSError):  # a kernel that doesn't know the advice
        memory.madvise(POPULATE_READ, start, offset + size - start)
