"""A step that Orbax wrote: its metadata say what is there, tensorstore reads an array when it is asked for.

Format: orbax-checkpoint's docs/guides/checkpoint/checkpoint_format.ipynb. Arrays are zarr, usually in one OCDBT store;
neither needs JAX.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vit_convert.contiguous import contiguous
from vit_convert.errors import CheckpointError, some
from vit_convert.files.containers import choose
from vit_convert.files.directory import ORBAX_STEP as STEP
from vit_convert.files.safetensors import CODES
from vit_convert.files.tensors import Spec, Tensors, read_json

TREE, STORE = "_METADATA", "manifest.ocdbt"
UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a step until it is complete
WEIGHTS = ("ema", "params")  # of a training state: averaged ones are preferred


def tree_in(folder: Path) -> Path | None:
    """The directory of the saved tree, if `folder` is an Orbax step or an item of one, else None.

    Raises:
        CheckpointError: the step isn't complete, or holds several trees or none.
    """
    if (folder / TREE).is_file():
        return folder
    if not (folder / STEP).is_file():
        return None
    if UNFINISHED in folder.name:
        raise CheckpointError(f"{folder}: this step was never completed")
    inner = sorted(path.parent.name for path in folder.glob(f"*/{TREE}"))
    if len(inner) != 1:
        reason = f"several trees; pass the path of one of them: {some(inner, ', ')}" if inner else f"no tree ({TREE})"
        raise CheckpointError(f"{folder}: this Orbax step holds {reason}")
    return folder / inner[0]


def open_orbax(tree: Path, weights: str | None = None) -> Tensors:
    """The parameters of a training state, or the whole tree if it is none, by their keys joined by dots.

    Its path is the step's, so that what describes the model lies beside the steps.

    Raises:
        CheckpointError: tensorstore is missing, the metadata or arrays are truncated or corrupt, dtypes that are not
            read, or weights that are not there.
    """
    metadata = read_json(tree / TREE)
    path = _step_of(tree)
    chosen, said = choose(path, _held(tree, metadata), weights, lambda leaf: isinstance(leaf, str), WEIGHTS)
    return _lazy(tree, metadata, dict(_flat("", chosen)), said)


def open_tree(tree: Path) -> Tensors:
    """The whole of a saved tree, such as a training state with its moments, by its keys joined by dots.

    Raises:
        CheckpointError: as `open_orbax`.
    """
    metadata = read_json(tree / TREE)
    return _lazy(tree, metadata, dict(_flat("", _held(tree, metadata))))


def _step_of(tree: Path) -> Path:
    return tree if (tree / STEP).is_file() or not (tree.parent / STEP).is_file() else tree.parent


def _lazy(tree: Path, metadata: Mapping[str, Any], stored: Mapping[str, str], said: tuple[str, ...] = ()) -> Tensors:
    """Arrays by name, of which `stored` tells the name in the store."""
    path, arrays = _step_of(tree), _opened(tree, metadata, stored)
    specs = {name: Spec(tuple(array.shape), array.dtype.numpy_dtype) for name, array in arrays.items()}
    unread = [f"{name} ({spec.dtype})" for name, spec in specs.items() if spec.dtype not in CODES]
    if unread:
        raise CheckpointError(f"{path}: these dtypes are not read: {some(unread, ', ')}")

    def read(name: str) -> np.ndarray:
        return contiguous(_attempt(tree, stored[name], lambda: np.asarray(arrays[name].read().result())))

    return Tensors(path, specs, read, said=said)


def _held(tree: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The saved tree: nested dicts, with the name under which an array is stored for each leaf.

    Raises:
        CheckpointError: the metadata are not Orbax's.
    """
    held: dict[str, Any] = {}
    try:
        for leaf in metadata["tree_metadata"].values():
            if leaf["value_metadata"]["skip_deserialize"]:
                continue  # None, or an empty dict
            *folders, last = keys = [str(key["key"]) for key in leaf["key_metadata"]]
            inner = held
            for folder in folders:
                inner = inner.setdefault(folder, {})
            inner[last] = ".".join(keys)
            inner[last].encode()  # or tensorstore takes it for no text
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{tree / TREE}: not as Orbax writes it ({error!r})") from None
    return held


def _flat(prefix: str, tree: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield prefix + key, value


def _opened(tree: Path, metadata: Mapping[str, Any], stored: Mapping[str, str]) -> dict[str, Any]:
    """tensorstore's handles: shapes and dtypes are read, data is not."""
    try:
        import tensorstore
    except ModuleNotFoundError:
        raise CheckpointError(f"{tree}: reading Orbax needs tensorstore: pip install 'vit-parity[flax]'") from None
    futures = {name: tensorstore.open(_where(tree, metadata, at), open=True, read=True) for name, at in stored.items()}
    return {name: _attempt(tree, stored[name], future.result) for name, future in futures.items()}


def _where(tree: Path, metadata: Mapping[str, Any], name: str) -> dict[str, Any]:
    folder = f"{tree.resolve()}/"
    in_store = {"driver": "ocdbt", "base": {"driver": "file", "path": folder}, "path": f"{name}/"}
    apart = {"driver": "file", "path": f"{folder}{name}/"}
    return {
        "driver": "zarr3" if metadata.get("use_zarr3") else "zarr",
        "kvstore": in_store if (tree / STORE).is_file() else apart,
        # What is missing is an error, where zeros were stored like everything else.
        "fill_missing_data_reads": not metadata.get("store_array_data_equal_to_fill_value", False),
    }


def _attempt(tree: Path, name: str, work: Callable[[], Any]) -> Any:
    try:
        return work()
    except (ValueError, OSError) as error:  # tensorstore's
        reason = str(error).splitlines()[0][:200]
        raise CheckpointError(f"{tree}: {name} is missing, truncated or corrupt ({reason})") from None
