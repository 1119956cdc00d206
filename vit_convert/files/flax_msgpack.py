"""Flax's msgpack: nested dicts of arrays, mapped when read; written as a stream, each array at its own place.

Format: flax/serialization.py. An array is an ext of (shape, dtype name, bytes in C order); one of more than 2**30
bytes is a dict of flat chunks.
"""

import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from vit_convert.contiguous import contiguous
from vit_convert.errors import CheckpointError, some
from vit_convert.files.complete import complete, octets, pieces, promised
from vit_convert.files.mapped import mapped
from vit_convert.files.msgpack import (
    Token,
    Walker,
    array_head,
    binary_head,
    ext_head,
    integer,
    map_head,
    text,
)
from vit_convert.files.safetensors import CODES
from vit_convert.files.tensors import Spec, Tensors

NDARRAY, SCALAR = 1, 3  # Flax's ext types; 2 is a complex number
CHUNKED = "__msgpack_chunked_array__"
MAX_CHUNK = 2**30  # bytes, as flax.serialization.MAX_CHUNK_SIZE
DEEPEST = 100  # dicts in dicts
DTYPES = {dtype.name: dtype for dtype in CODES}


@dataclass(frozen=True)
class Stored:
    """An array of a file: `places` is (offset, bytes) of each of its chunks."""

    shape: tuple[int, ...]
    dtype: str
    places: tuple[tuple[int, int], ...]


def open_msgpack(path: Path) -> Tensors:
    """The arrays of a Flax msgpack file, '/'-joined; what else it holds is said. Only heads are read yet.

    Raises:
        CheckpointError: truncated or no Flax msgpack; or dtypes that are not read: all are named.
    """
    try:
        with open(path, "rb") as file:
            memory = mapped(file)
        arrays, others = _leaves(memory)
    except CheckpointError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: truncated or not a Flax msgpack file ({error})") from None
    unread = [f"{name} ({array.dtype})" for name, array in arrays.items() if array.dtype not in DTYPES]
    if unread:
        raise CheckpointError(f"{path}: these dtypes are not read: {some(unread, ', ')}")
    specs = {name: Spec(array.shape, DTYPES[array.dtype]) for name, array in arrays.items()}

    def read(name: str) -> np.ndarray:
        spec, places = specs[name], arrays[name].places
        counts = [size // spec.dtype.itemsize for _, size in places]
        flat = [np.frombuffer(memory, spec.dtype, n, at) for (at, _), n in zip(places, counts, strict=True) if n]
        if not flat:
            return np.empty(spec.shape, spec.dtype)
        return contiguous((flat[0] if len(flat) == 1 else np.concatenate(flat)).reshape(spec.shape))

    said = (f"left out what is no array: {some(others, ', ')}",) if others else ()
    return Tensors(path, specs, read, said=said)


def _leaves(memory: mmap.mmap) -> tuple[dict[str, Stored], list[str]]:
    """The arrays of a file by name, and the names of what else there is."""
    is_dict = Walker(memory, 0, len(memory)).next().kind == "map"
    walker = Walker(memory, 0, len(memory))
    tree = _object(walker, DEEPEST)
    if not is_dict or walker.at != walker.end:
        raise ValueError("expected one dict and nothing behind it")
    arrays: dict[str, Stored] = {}
    others = []
    for name, leaf in _flat("", tree):
        if name in arrays:
            raise ValueError(f"{name} is there twice")
        if isinstance(leaf, Stored):
            arrays[name] = leaf
        else:
            others.append(name)
    return arrays, others


def _flat(prefix: str, tree: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and CHUNKED in value:
            yield prefix + key, _joined(value)
        elif isinstance(value, dict) and value:
            yield from _flat(f"{prefix}{key}/", value)
        else:
            yield prefix + key, value


def _object(walker: Walker, depth: int) -> Any:
    """A dict (lists too, by index), a Stored, a number, or None for what no array needs."""
    if not depth:
        raise ValueError("dicts are nested too deeply")
    token = walker.next()
    if token.kind == "array":
        return {str(i): _object(walker, depth - 1) for i in range(token.value)}
    if token.kind == "map":
        entries = [(_key(walker), _object(walker, depth - 1)) for _ in range(token.value)]
        if len(dict(entries)) != len(entries):
            raise ValueError("a key is there twice")
        return dict(entries)
    if token.kind == "ext" and token.value in (NDARRAY, SCALAR):
        return _stored(Walker(walker.memory, token.start, token.start + token.size))
    return token.value if token.kind == "plain" else None


def _key(walker: Walker) -> str:
    token = walker.next()
    if token.kind == "str":
        return walker.text(token)
    if token.kind == "plain" and isinstance(token.value, int):
        return str(token.value)
    raise ValueError("a key is neither text nor a number")


def _stored(walker: Walker) -> Stored:
    head, dims = walker.next(), walker.next()
    if (head.kind, head.value, dims.kind) != ("array", 3, "array"):
        raise ValueError("an array is not (shape, dtype, bytes)")
    shape = tuple(_size(walker.next().value) for _ in range(dims.value))
    dtype, data = walker.text(_bytes(walker.next())), _bytes(walker.next())
    if walker.at != walker.end or (dtype in DTYPES and data.size != prod(shape) * DTYPES[dtype].itemsize):
        raise ValueError(f"an array of {dtype} {shape} has {data.size} bytes")
    return Stored(shape, dtype, ((data.start, data.size),))


def _bytes(token: Token) -> Token:
    if token.kind not in ("str", "bin"):
        raise ValueError("an array is not (shape, dtype, bytes)")
    return token


def _size(value: Any) -> int:
    if type(value) is not int or value < 0:  # True is an int
        raise ValueError(f"an array's shape has {value!r}")
    return value


def _joined(tree: dict[str, Any]) -> Stored:
    """An array that was cut into chunks."""
    dims, chunks = tree.get("shape"), tree.get("chunks")
    if not isinstance(dims, dict) or not isinstance(chunks, dict) or not chunks:
        raise ValueError("a chunked array has no shape or no chunks")
    shape = tuple(_size(dims.get(str(i))) for i in range(len(dims)))
    parts = [chunks.get(str(i)) for i in range(len(chunks))]
    stored = [part for part in parts if isinstance(part, Stored)]
    if len(stored) != len(parts) or len({part.dtype for part in stored}) != 1:
        raise ValueError("chunks of an array are missing or of several dtypes")
    if sum(prod(part.shape) for part in stored) != prod(shape):
        raise ValueError(f"the chunks of an array {shape} have another size")
    return Stored(shape, stored[0].dtype, tuple(place for part in stored for place in part.places))


def write_msgpack(
    path: str | os.PathLike[str], specs: Mapping[str, Spec], tensors: Iterable[tuple[str, np.ndarray]]
) -> None:
    """Writes a stream of arrays, each at its own place in a file of known size, in whatever order they come.

    Names are '/'-joined keys; `flax.serialization.msgpack_restore` reads the file. It appears under its name only
    when it is complete; on failure nothing of it is left.

    Raises:
        CheckpointError: names of which one is another's dict, a dtype that is not known, or tensors that are not
            those of `specs`.
        OSError: the disk is full.
    """
    odd = [f"{name} {spec.dtype}" for name, spec in specs.items() if spec.dtype not in CODES]
    if odd:
        raise CheckpointError(f"msgpack files have no such dtype: {some(odd, ', ')}")
    heads, places, size = _layout(_parts(_tree(specs)))
    with complete(Path(path)) as file:
        file.truncate(size)
        for at, head in heads:
            file.seek(at)
            file.write(head)
        for name, array in promised(specs, tensors):
            data, done = octets(array), 0
            for at, count in places[name]:
                file.seek(at)
                file.writelines(pieces(data[done : done + count]))
                done += count


@dataclass(frozen=True)
class Gap:
    """Where bytes of a tensor go."""

    name: str
    size: int


def _layout(parts: Iterable[bytes | Gap]) -> tuple[list[tuple[int, bytes]], dict[str, list[tuple[int, int]]], int]:
    """(offset, bytes) of all heads; (offset, size) of each tensor's bytes; and the size of the file."""
    heads: list[tuple[int, bytes]] = []
    places: dict[str, list[tuple[int, int]]] = {}
    at = 0
    for part in parts:
        if isinstance(part, Gap):
            places.setdefault(part.name, []).append((at, part.size))
            at += part.size
        else:
            heads.append((at, part))
            at += len(part)
    return heads, places, at


def _tree(specs: Mapping[str, Spec]) -> dict[str, Any]:
    """Nested dicts, with (name, spec) for each tensor."""
    tree: dict[str, Any] = {}
    for name, spec in specs.items():
        *folders, leaf = name.split("/")
        inner: Any = tree
        for folder in folders:
            inner = inner.setdefault(folder, {})
            if not isinstance(inner, dict):
                raise CheckpointError(f"msgpack files nest by name: {name} can't be, as {inner[0]} is a tensor")
        if leaf in inner:
            raise CheckpointError(f"msgpack files nest by name: {name} can't be a tensor, others are in it")
        inner[leaf] = name, spec
    return tree


def _parts(tree: dict[str, Any]) -> Iterator[bytes | Gap]:
    yield map_head(len(tree))
    for key, value in tree.items():
        yield text(key)
        yield from _parts(value) if isinstance(value, dict) else _array(*value)


def _array(name: str, spec: Spec) -> Iterator[bytes | Gap]:
    count, size = prod(spec.shape), spec.dtype.itemsize
    if count * size <= MAX_CHUNK:
        return _ndarray(name, spec.shape, spec.dtype)
    most = max(1, MAX_CHUNK // size)
    counts = [min(most, count - start) for start in range(0, count, most)]
    return chain(
        [map_head(3), text(CHUNKED), b"\xc3", text("shape"), map_head(len(spec.shape))],
        (text(str(i)) + integer(n) for i, n in enumerate(spec.shape)),
        [text("chunks"), map_head(len(counts))],
        *(chain([text(str(i))], _ndarray(name, (n,), spec.dtype)) for i, n in enumerate(counts)),
    )


def _ndarray(name: str, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[bytes | Gap]:
    size = prod(shape) * dtype.itemsize
    head = array_head(3) + array_head(len(shape)) + b"".join(map(integer, shape)) + text(dtype.name) + binary_head(size)
    yield ext_head(NDARRAY, len(head) + size) + head
    yield Gap(name, size)
