""".pt, .pth, .pth.tar and .bin: state dicts of `torch.save`, through torch's loader that executes nothing."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vit_convert.errors import CheckpointError, some
from vit_convert.files.containers import choose
from vit_convert.files.safetensors import CODES
from vit_convert.files.tensors import Spec, Tensors

# What training files hold beside their weights: arguments, measurements, random states. No weights need them, so
# none of it is imported or called: each name is read as a stand-in that takes what the pickle gives it and keeps
# nothing.
LEFT_ASIDE = (
    "argparse.Namespace",
    "builtins.dict",
    "builtins.float",
    "builtins.int",
    "builtins.list",
    "builtins.str",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib._local.PosixPath",
    "types.SimpleNamespace",
    "typing.Any",
)

# In what torch says of a mapping that Linux refuses, and of tensors of the old format: on Linux, on Windows.
NO_ROOM = ("annot allocate memory", "can't allocate memory", "not enough memory")


class StandIn:
    """What is there instead of an object that a file names."""

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def open_torch(path: Path, weights: str | None = None) -> Tensors:
    """A state dict of `torch.save`, mapped where the file is a zip (torch 1.6 and later); `weights`: which of several.

    Raises:
        CheckpointError: torch is missing; the file is truncated, holds code, or what is meant holds other values
            than dense tensors: all are named. Or the memory doesn't suffice.
        MemoryError: it doesn't, for what isn't tensors.
    """
    held = _load(path)
    if not isinstance(held, Mapping):
        raise CheckpointError(f"{path}: expected a dict of tensors, name -> tensor, got {_kind(held)}")
    state, said = choose(path, held, weights, _is_tensor)
    _check_state(path, state)
    dtypes = {name: _numpy_dtype(path, name, tensor) for name, tensor in state.items()}
    specs = {name: Spec(tuple(tensor.shape), dtypes[name]) for name, tensor in state.items()}

    def read(name: str) -> np.ndarray:
        import torch

        try:
            tensor = state[name].detach().resolve_neg().contiguous()
        except RuntimeError as error:  # a copy, where it is a view of others' numbers
            raise MemoryError(f"{path}: {name} can't be read ({str(error).splitlines()[0]})") from None
        flat = tensor.as_strided((tensor.numel(),), (1,))  # one number counts as contiguous with any stride
        return flat.view(torch.uint8).numpy().view(specs[name].dtype).reshape(specs[name].shape)

    return Tensors(path, specs, read, said=said)


def _load(path: Path) -> Any:
    try:
        import torch
    except ModuleNotFoundError:
        raise CheckpointError(
            f"{path}: reading what torch.save wrote needs torch: pip install 'vit-parity[torch]'"
        ) from None
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_stand_ins()):
            warnings.simplefilter("ignore")  # torch's advice on files that are then refused in our words
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except MemoryError:
        raise MemoryError(f"{path} can't be read") from None
    except Exception as error:  # torch raises whatever a broken or hostile pickle makes it meet
        raise CheckpointError(f"{path}: {_torch_reason(error)}") from None


def _stand_ins() -> list[Any]:
    classes = [(type(name.rpartition(".")[2], (StandIn,), {}), name) for name in LEFT_ASIDE]
    return [*classes, (_empty_dict, "collections.defaultdict")]  # which a pickle then fills


def _empty_dict(*args: Any) -> dict:
    return {}


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _torch_reason(error: Exception) -> str:
    if any(words in str(error) for words in NO_ROOM):
        # torch's mapping is one that Linux wants RAM or swap for, as a whole.
        return (
            f"not enough memory ({str(error).splitlines()[0]}); "
            "more swap will do, or its state dict as .safetensors, which needs none"
        )
    # torch's own words advise to execute the pickle. It stops at operands that torch.save never writes.
    objects = isinstance(error, pickle.UnpicklingError) and "Unsupported operand" not in str(error)
    if objects or "TorchScript" in str(error):
        return (
            "holds objects other than tensors, which are not executed; "
            "save its state dict as .safetensors where you trust it"
        )
    return "truncated or no torch file"


def _check_state(path: Path, state: Mapping[Any, Any]) -> None:
    odd = [f"{name!r}: {_kind(value)}" for name, value in state.items() if not _is_tensor(value)]
    odd += [f"{name!r}: a name that is no text" for name in state if not isinstance(name, str)]
    if not odd:
        return
    texts = {name: value for name, value in state.items() if isinstance(name, str)}
    inner = [n for n, v in texts.items() if isinstance(v, Mapping) and any(map(_is_tensor, v.values()))]
    advice = f"; --weights takes {some(inner, ', ')}" if inner else ""
    raise CheckpointError(f"{path}: expected a dict of tensors, name -> tensor, got {some(odd, ', ')}{advice}")


def _kind(value: Any) -> str:
    return type(value).__name__


def _numpy_dtype(path: Path, name: str, tensor: Any) -> np.dtype:
    text = str(tensor.dtype).removeprefix("torch.")
    known = {dtype.name: dtype for dtype in CODES}
    if text not in known or not _is_plain(tensor):
        kind = "nested" if tensor.is_nested else f"{tensor.device} {tensor.layout}"
        raise CheckpointError(f"{path}: {name} is a {kind} tensor of {tensor.dtype}, which is not read")
    return known[text]


def _is_plain(tensor: Any) -> bool:
    """Whether its numbers are there, each at its place: a file of torch.save may hold a tensor of device meta."""
    import torch

    dense = tensor.layout is torch.strided and not tensor.is_nested
    return dense and tensor.device.type == "cpu" and not tensor.is_quantized
