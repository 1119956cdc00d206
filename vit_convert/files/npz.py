"""npz: a zip of arrays, mapped where they are stored, inflated on request where not; written one by one.

Format: numpy/lib/format.py, and PKWARE's APPNOTE.TXT for the zip. Pickled objects are never read.
"""

import mmap
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np
from numpy.lib import format as npy

from vit_convert.contiguous import contiguous
from vit_convert.errors import CheckpointError, some
from vit_convert.files.complete import complete, octets, pieces, promised
from vit_convert.files.mapped import mapped
from vit_convert.files.tensors import Spec, Tensors

# npy names dtypes by kind and size alone: bfloat16, which NumPy doesn't have, is two bytes of no kind (`|V2`), as
# big_vision writes it; the 8-bit floats would all be `|V1`, so none of them has a name.
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
CODES = ("<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "i1", "<u8", "<u4", "<u2", "u1", "?")
DTYPES = {*map(np.dtype, CODES), BFLOAT16}
SUFFIX = ".npy"
PIECE = 2**17  # bytes that are inflated at a time
ALIGN, ALIGNMENT = 64, 0xD935  # where an array's bytes begin; the kind of a zip's extra field that makes it so
ZIP64 = 2**31 - 2**16  # bytes, from which a member's sizes take 64 bits


@dataclass(frozen=True)
class Member:
    """An array in the zip: what it is, and where its bytes are."""

    info: zipfile.ZipInfo
    spec: Spec
    fortran: bool
    head: int  # bytes of its npy header


def open_npz(path: Path) -> Tensors:
    """The arrays of an npz by their names, without .npy. Only headers are read yet.

    The checksum of a stored array is not verified, as reading it would take the time that mapping saves.

    Raises:
        CheckpointError: truncated, corrupt or no npz; or it holds objects or dtypes that are not read: all are named.
    """
    try:
        archive = zipfile.ZipFile(path)
        members = {_name(info): _member(archive, info) for info in archive.infolist()}
        if len(members) != len(archive.infolist()):
            raise ValueError("a name is there twice")
        assert archive.fp is not None
        memory = mapped(archive.fp)
        offsets = {n: _offset(memory, m) for n, m in members.items() if m.info.compress_type == zipfile.ZIP_STORED}
    except CheckpointError:
        raise
    except _BROKEN as error:
        raise CheckpointError(f"{path}: truncated or not an npz file ({error})") from None
    unread = [f"{name} ({_kind(m.spec.dtype)})" for name, m in members.items() if m.spec.dtype not in DTYPES]
    if unread:
        raise CheckpointError(f"{path}: these are not read: {some(unread, ', ')}")

    def read(name: str) -> np.ndarray:
        member = members[name]
        count, dtype = prod(member.spec.shape), member.spec.dtype
        if name in offsets and count:
            flat = np.frombuffer(memory, dtype, count, offsets[name])
        else:
            flat = _inflate(path, archive, member)
        shape = member.spec.shape
        return contiguous(flat.reshape(shape[::-1]).T if member.fortran else flat.reshape(shape))

    return Tensors(path, {name: member.spec for name, member in members.items()}, read)


# What zipfile, zlib and numpy.lib.format raise for files that are none.
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)


def _name(info: zipfile.ZipInfo) -> str:
    if not info.filename.endswith(SUFFIX):
        raise ValueError(f"{info.filename} is no {SUFFIX}")
    return info.filename.removesuffix(SUFFIX)


def _kind(dtype: np.dtype) -> str:
    return "objects, which are pickles and never executed" if dtype.hasobject else str(dtype)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # each other kind has errors of its own
        raise ValueError(f"{info.filename} is compressed by method {info.compress_type}, NumPy writes 0 and 8")
    with archive.open(info) as file:
        shape, fortran, dtype = _header(file)
        head = file.tell()
    dtype = BFLOAT16 if dtype == np.dtype("V2") else dtype
    size = head + prod(shape) * dtype.itemsize
    if size != info.file_size and not dtype.hasobject:
        raise ValueError(f"{info.filename} has {info.file_size} bytes, its header says {size}")
    return Member(info, Spec(shape, dtype), fortran, head)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"npy version {version}")
    try:
        shape, fortran, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    except Exception as error:  # NumPy parses Python's literals, and raises whatever a damaged one makes it meet
        raise ValueError(f"{file.name} has no header of an array: {error!r}") from None
    if any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"an array of shape {shape}")
    return shape, fortran, dtype


def _offset(memory: mmap.mmap, member: Member) -> int:
    """Where the array's bytes begin: behind the member's own header, whose name and extra field vary in length."""
    at = member.info.header_offset
    name, extra = (int.from_bytes(memory[at + i : at + i + 2], "little") for i in (26, 28))
    start = at + 30 + name + extra + member.head
    if start + prod(member.spec.shape) * member.spec.dtype.itemsize > len(memory):
        raise ValueError(f"{member.info.filename} goes beyond the end")
    return start


def _inflate(path: Path, archive: zipfile.ZipFile, member: Member) -> np.ndarray:
    flat = np.empty(prod(member.spec.shape), member.spec.dtype)
    data, at = octets(flat), 0
    try:
        with archive.open(member.info) as file:
            file.read(member.head)
            while piece := file.read(PIECE):  # the last one verifies the checksum
                data[at : at + len(piece)] = piece
                at += len(piece)
        if at != len(data):
            raise ValueError(f"{len(data)} bytes expected, {at} are there")
    except _BROKEN as error:
        raise CheckpointError(f"{path}: {member.info.filename} is corrupt ({error})") from None
    return flat


def write_npz(
    path: str | os.PathLike[str], specs: Mapping[str, Spec], tensors: Iterable[tuple[str, np.ndarray]]
) -> None:
    """Writes a stream of arrays one after the other, in whatever order they come; `np.load` reads them.

    The file appears under its name only when it is complete; on failure nothing of it is left.

    Raises:
        CheckpointError: a dtype or name that npz doesn't have, or tensors that are not those of `specs`.
        OSError: the disk is full.
    """
    odd = [f"{name} {spec.dtype}" for name, spec in specs.items() if spec.dtype not in DTYPES]
    odd += [repr(name) for name in specs if "\0" in name or len(name.encode()) > 2**16 - 99]
    if odd:
        raise CheckpointError(f"npz has no such dtype or name: {some(odd, ', ')}")
    with complete(Path(path)) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in promised(specs, tensors):
            _write(archive, file, name, array)


def _write(archive: zipfile.ZipFile, file: IO[bytes], name: str, array: np.ndarray) -> None:
    info, large = zipfile.ZipInfo(name + SUFFIX), array.nbytes > ZIP64
    info.external_attr = 0o600 << 16  # as numpy.savez
    head = 30 + len(info.filename.encode()) + 20 * large + 4  # APPNOTE 4.3.7, its zip64 field, this field's own head
    padding = -(file.tell() + head) % ALIGN
    info.extra = ALIGNMENT.to_bytes(2, "little") + padding.to_bytes(2, "little") + bytes(padding)
    header: dict[str, Any] = {"descr": npy.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    with archive.open(info, "w", force_zip64=large) as member:
        npy.write_array_header_1_0(member, header)
        member.writelines(pieces(octets(array)))
