"""Which file a source means, and which reader it needs."""

import os
import re
from pathlib import Path

from vit_convert.errors import CheckpointError
from vit_convert.files.containers import unwrapped
from vit_convert.files.directory import INDEX, SUFFIXES, TORCH, weights_in
from vit_convert.files.flax_msgpack import open_msgpack
from vit_convert.files.hub_source import is_hub_name, weights_path
from vit_convert.files.npz import open_npz
from vit_convert.files.orbax import open_orbax, tree_in
from vit_convert.files.safetensors import open_safetensors
from vit_convert.files.shards import open_sharded
from vit_convert.files.tensors import Tensors
from vit_convert.files.torch_pickle import open_torch

POINTER = b"version https://git-lfs.github.com/spec/"
READ = f"{', '.join(SUFFIXES)}, {INDEX} (sharded), a directory that holds one of them, an Orbax step, hf-hub:owner/name"


def open_tensors(path: str | os.PathLike[str], weights: str | None = None) -> Tensors:
    """A file or directory of tensors, or hf-hub:owner/name, lazily: mapped, nothing is read but the header.

    Args:
        weights: which of several that a training file holds: "model", "model_ema", "teacher". The averaged ones
            are preferred, said aloud.

    Raises:
        CheckpointError: it isn't there, is of another format, is truncated or corrupt, or holds no such weights.
    """
    return unwrapped(_open(find_weights(path), weights))


def _open(path: Path, weights: str | None) -> Tensors:
    if path.is_dir():
        return open_orbax(path, weights)
    _refuse_pointer(path)
    if path.name.endswith(TORCH):
        return open_torch(path, weights)
    if weights is not None:
        raise CheckpointError(f"{path}: holds one set of weights and no {weights!r}: leave --weights out")
    if path.name.endswith(".index.json"):
        return open_sharded(path, _open_shard)
    if path.suffix == ".safetensors":
        return open_safetensors(path)
    if path.suffix == ".msgpack":
        return open_msgpack(path)
    if path.suffix == ".npz":
        return open_npz(path)
    raise CheckpointError(f"{path}: {path.suffix or 'this file'} is not a format that is read; these are: {READ}")


def _open_shard(path: Path) -> Tensors:
    if path.name.endswith(".index.json"):  # which could name itself
        raise CheckpointError(f"{path}: an index, not a shard: a shard is a file of tensors")
    return _open(path, None)


def _refuse_pointer(path: Path) -> None:
    """What stands in the place of a large file in a clone without Git LFS (git-lfs/docs/spec.md)."""
    try:
        with open(path, "rb") as file:
            found = file.read(len(POINTER))
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error})") from None
    if found == POINTER:
        raise CheckpointError(f"{path}: a Git LFS pointer, not the weights themselves: fetch them with `git lfs pull`")


def find_weights(source: str | os.PathLike[str]) -> Path:
    """The weights file that a source means: itself, the one in the directory, or of a model of the hub.

    Of an Orbax step it is the directory of the tree.
    """
    path = Path(source)
    if path.is_dir():
        return tree_in(path) or weights_in(path)
    if path.exists():
        return path
    if is_hub_name(path.as_posix()):
        return weights_path(path.as_posix())
    raise CheckpointError(f"{path}: no such file or directory{_hub_hint(path)}")


def _hub_hint(path: Path) -> str:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", path.as_posix()) or path.parent.is_dir():
        return ""
    return f". A model of the Hugging Face hub is named hf-hub:{path.as_posix()}"
