"""Which file a path means, and which reader it needs."""

import os
import re
from pathlib import Path

from vit_convert.errors import CheckpointError
from vit_convert.files.containers import unwrapped
from vit_convert.files.flax_msgpack import open_msgpack
from vit_convert.files.npz import open_npz
from vit_convert.files.safetensors import open_safetensors, open_sharded
from vit_convert.files.tensors import Tensors
from vit_convert.files.torch_pickle import open_torch

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
READ = f".safetensors, {INDEX} (sharded), a directory that holds {WEIGHTS} or {INDEX}, .msgpack, .npz, .pt, .pth, .bin"


def open_tensors(path: str | os.PathLike[str], weights: str | None = None) -> Tensors:
    """A file or directory of tensors, lazily: memory-mapped, nothing is read but the header.

    Args:
        weights: which of several that a training file holds: "model", "model_ema", "teacher". The averaged ones
            are preferred, said aloud.

    Raises:
        CheckpointError: it isn't there, is of another format, is truncated or corrupt, or holds no such weights.
    """
    return unwrapped(_open(find_weights(path), weights))


def _open(path: Path, weights: str | None) -> Tensors:
    if path.suffix in (".pt", ".pth", ".bin"):
        return open_torch(path, weights)
    if weights is not None:
        raise CheckpointError(f"{path}: holds one set of weights and no {weights!r}: leave --weights out")
    if path.name.endswith(".index.json"):
        return open_sharded(path)
    if path.suffix == ".safetensors":
        return open_safetensors(path)
    if path.suffix == ".msgpack":
        return open_msgpack(path)
    if path.suffix == ".npz":
        return open_npz(path)
    raise CheckpointError(f"{path}: {path.suffix or 'this file'} is not a format that is read; these are: {READ}")


def find_weights(path: str | os.PathLike[str]) -> Path:
    """The weights file that a path means: itself, or the one in the directory."""
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or directory" + _hub_hint(path))
    if not path.is_dir():
        return path
    for name in (WEIGHTS, INDEX):
        if (path / name).is_file():
            return path / name
    files = ", ".join(sorted(p.name for p in path.iterdir())[:20]) or "nothing"
    raise CheckpointError(f"{path}: a directory needs {WEIGHTS} or {INDEX}, this one has {files}{_inner_hint(path)}")


def _inner_hint(path: Path) -> str:
    inner = path / "checkpoint"  # a training run keeps its weights there
    return f"; did you mean {inner}?" if (inner / "config.json").is_file() else ""


def _hub_hint(path: Path) -> str:
    name = re.fullmatch(r"(?:hf[-_]hub:)?([\w.-]+/[\w.-]+)", path.as_posix())
    if not name or path.parent.is_dir():
        return ""
    download = f"hf download {name[1]} --local-dir DIR"
    return f". If it names a model of the Hugging Face hub: those are not fetched yet, so run `{download}` and pass DIR"
