"""torch.export: a .pt2 archive, which torch.export.load reads without our code."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_tools.export.base import Asked, Kind, Run
from vit_tools.export.metadata import NAME
from vit_tools.export.torch_model import torch_model


def write(asked: Asked, path: Path, said: dict[str, Any]) -> None:
    """images (batch, C, H, W) float32, preprocessed -> logits (batch, K) float32. H and W are open if that is asked."""
    import torch

    model, example, axes = torch_model(asked)
    program = torch.export.export(model, (example,), dynamic_shapes=({**axes},))
    # Not to the path: PyTorch's writer is C++, which ends the process by SIGABRT where the disk is full or a name is
    # not UTF-8, and where a file of Python's raises too. Memory holds the archive for that.
    archive = io.BytesIO()
    torch.export.save(program, archive, extra_files={NAME: json.dumps(said)})
    path.write_bytes(archive.getbuffer())


def load(path: Path) -> Run:
    import torch

    with open(path, "rb") as file:  # by a file: a name need not be UTF-8
        model = torch.export.load(file).module()

    def run(images: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        with torch.no_grad():
            return model(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))).numpy()

    return run


def read_metadata(path: Path) -> dict[str, Any]:
    import torch

    files = {NAME: ""}
    with open(path, "rb") as file:
        torch.export.load(file, extra_files=files)
    return json.loads(files[NAME])


PT2 = Kind(
    suffix=".pt2",
    what="torch.export",
    dtypes=("float32", "float16", "bfloat16"),
    needs=("torch",),
    extra="torch",
    any_size=True,
    write=write,
    load=load,
    read_metadata=read_metadata,
)
