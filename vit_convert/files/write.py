"""Which writer a file's name asks for."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from vit_convert.files.flax_msgpack import write_msgpack
from vit_convert.files.npz import write_npz
from vit_convert.files.safetensors import write_safetensors
from vit_convert.files.tensors import Spec

Stream = Iterable[tuple[str, np.ndarray]]


def write_tensors(path: Path, specs: Mapping[str, Spec], tensors: Stream, metadata: Mapping[str, str]) -> None:
    """Writes a stream of tensors in the format of the path's suffix; only safetensors has a place for metadata.

    Raises:
        CheckpointError: tensors that are not those of `specs`, or a dtype that the format has not.
        OSError: the disk is full, or writing is not permitted; nothing of the file is left.
    """
    if path.suffix == ".npz":
        write_npz(path, specs, tensors)
    elif path.suffix == ".msgpack":
        write_msgpack(path, specs, tensors)
    else:
        write_safetensors(path, specs, tensors, metadata)
