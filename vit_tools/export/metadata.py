"""What travels inside an exported model: labels, preprocessing, config, and which weights it was made of."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from vit_tools.export.base import RUN_ON, Asked, Kind

NAME = "vit-parity.json"  # of the entry or file that holds it
FORMAT, VERSION = "vit-parity-export", 1


def metadata(asked: Asked, kind: Kind) -> dict[str, Any]:
    """Plain JSON. `sha256` is of the weights in the hub's names and order, whatever file they came from; `platforms`
    are those that the program was run on, and those that it is lowered for alone."""
    found = asked.found
    assert found.preprocess is not None
    return {
        "format": FORMAT,
        "version": VERSION,
        "vit_parity": own_version(),
        "dtype": asked.dtype,
        "dynamic_size": asked.dynamic_size,
        "platforms": {"run": [RUN_ON], "lowered": list(kind.not_run(asked))},
        "labels": list(found.labels) if found.labels else None,
        "preprocess": found.preprocess.to_dict(),
        "config": found.config.to_dict(),
        "sha256": weights_sha256(dict(found.tensors("native"))),
    }


def weights_sha256(tensors: Mapping[str, np.ndarray]) -> str:
    """Of every tensor's name, dtype, shape and bytes, by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def own_version() -> str:
    """Of this package; "unknown" where it runs without being installed."""
    try:
        return version("vit-parity")
    except PackageNotFoundError:
        return "unknown"
