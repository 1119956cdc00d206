""".pt and .pth: state dicts of `torch.save`, through torch's loader that executes nothing."""

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from vit_convert.errors import CheckpointError, some
from vit_convert.files.safetensors import CODES
from vit_convert.files.tensors import Spec, Tensors


def open_torch(path: Path) -> Tensors:
    """A state dict of `torch.save`: tensors only, mapped where the file is a zip (torch 1.6 and later)."""
    try:
        import torch
    except ModuleNotFoundError:
        raise CheckpointError(f"{path}: reading {path.suffix} needs torch: pip install 'vit-parity[torch]'") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on files that are then refused in our words
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch raises whatever a broken or hostile pickle makes it meet
        raise CheckpointError(f"{path}: {_torch_reason(error)}") from None
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise CheckpointError(f"{path}: expected a dict of tensors, name -> tensor, got {_held(state)}")
    specs = {name: Spec(tuple(t.shape), _numpy_dtype(path, name, t)) for name, t in state.items()}

    def read(name: str) -> np.ndarray:
        tensor = state[name].detach().contiguous()
        return tensor.view(-1).view(torch.uint8).numpy().view(specs[name].dtype).reshape(specs[name].shape)

    return Tensors(path, specs, read)


def _torch_reason(error: Exception) -> str:
    # torch's own words advise to execute the pickle. It stops at operands that torch.save never writes.
    objects = isinstance(error, pickle.UnpicklingError) and "Unsupported operand" not in str(error)
    if objects or "TorchScript" in str(error):
        return (
            "holds objects other than tensors, which are not executed; "
            "save its state dict as .safetensors where you trust it"
        )
    return "truncated or no torch file"


def _held(state: Any) -> str:
    """What is there instead of tensors, and what to do about it."""
    if not isinstance(state, dict):
        return type(state).__name__
    inner = [repr(name) for name, value in state.items() if isinstance(value, dict)]
    kinds = some([f"{name!r}: {type(value).__name__}" for name, value in state.items()], ", ")
    if not inner:
        return kinds
    return f"{kinds}; save the inner state dict ({some(inner, ' or ')}) on its own: containers are not read yet"


def _numpy_dtype(path: Path, name: str, tensor: Any) -> np.dtype:
    text = str(tensor.dtype).removeprefix("torch.")
    known = {dtype.name: dtype for dtype in CODES}
    if text not in known or tensor.is_sparse or tensor.is_quantized:
        raise CheckpointError(f"{path}: {name} is a {tensor.layout} tensor of {tensor.dtype}, which is not read")
    return known[text]
