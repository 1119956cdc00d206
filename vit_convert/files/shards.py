"""A checkpoint in several files, and the index that says which tensor is in which."""

from collections.abc import Callable
from os.path import isfile  # False of a name that is too long, where Path.is_file raises
from pathlib import Path

from vit_convert.errors import CheckpointError
from vit_convert.files.tensors import Tensors, read_json
from vit_convert.rules import check


def open_sharded(path: Path, open_shard: Callable[[Path], Tensors]) -> Tensors:
    """The tensors of all shards, each where the index says.

    Raises:
        CheckpointError: the index is none, or the shards are not there or not as it says.
    """
    files = _weight_map(path)
    odd = sorted({file for file in files.values() if Path(file).name != file})
    absent = sorted({file for file in files.values() if file not in odd and not isfile(path.parent / file)})
    if odd or absent:
        raise CheckpointError(f"{path}: these shards are not beside it: {', '.join(odd + absent)}")
    shards = {file: open_shard(path.parent / file) for file in sorted(set(files.values()))}
    for file, shard in shards.items():
        listed = dict.fromkeys(name for name in files if files[name] == file)  # without shapes: those the shard has
        check(listed, shard.shapes, f"{path.parent / file}: the tensors are not those that {path.name} lists")
    specs = {name: shards[file].specs[name] for name, file in files.items()}
    holding = tuple(path.parent / file for file in shards)
    return Tensors(path, specs, lambda name: shards[files[name]].read(name), shards=holding)


def _weight_map(path: Path) -> dict[str, str]:
    index = read_json(path)
    files = index.get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise CheckpointError(f"{path}: an index of shards needs a 'weight_map' of tensor name -> file name")
    return files
