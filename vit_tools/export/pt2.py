"""torch.export: a .pt2 archive, which torch.export.load reads without our code."""

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
    torch.export.save(program, path, extra_files={NAME: json.dumps(said)})


def load(path: Path) -> Run:
    import torch

    model = torch.export.load(path).module()

    def run(images: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        with torch.no_grad():
            return model(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))).numpy()

    return run


def read_metadata(path: Path) -> dict[str, Any]:
    import torch

    files = {NAME: ""}
    torch.export.load(path, extra_files=files)
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
