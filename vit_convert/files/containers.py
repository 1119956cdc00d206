"""Which weights of a training file are meant: one state dict of several, its names without training's wrappers."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vit_convert.errors import CheckpointError, some
from vit_convert.files.tensors import Tensors

# What training files call their state dicts: DeiT and MAE, timm and open_clip, DINO, I-JEPA, DeepSpeed.
# Averaged weights are preferred: they are the ones that a training run judges and publishes.
AVERAGED = ("model_ema", "state_dict_ema", "ema", "teacher", "target_encoder")
PLAIN = ("model", "state_dict", "student", "encoder", "module")
# What DataParallel and torch.compile put before every name.
WRAPPERS = ("module.", "_orig_mod.")
# What PyTorch's AveragedModel, a wrapper too, has beside its "module.".
COUNT = "n_averaged"


def choose(
    path: Path,
    held: Mapping[Any, Any],
    weights: str | None,
    is_tensor: Callable[[Any], bool],
    known: tuple[str, ...] = (*AVERAGED, *PLAIN),
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The state dict that is meant by what a file holds, and what was decided: `held` itself if it is no container.

    Of those that are `known`, the first is taken, unless `weights` names another.

    Raises:
        CheckpointError: `weights` is not there.
    """
    inner = [name for name, value in held.items() if isinstance(value, Mapping) and any(map(is_tensor, value.values()))]
    inner = [name for name in inner if isinstance(name, str)]  # one that is no text can't be asked for
    if weights is not None:
        name = _asked(path, inner, weights)
    else:
        name = next((name for name in known if name in inner), None)
    if name is None:
        return held, ()
    others = [other for other in known if other in inner and other != name]
    said = () if weights else _several(name, others)
    left = [str(other) for other in held if other != name and (weights or other not in others)]
    return held[name], (*said, *((f"left out of the file: {some(left, ', ')}",) if left else ()))


def _asked(path: Path, there: list[str], weights: str) -> str:
    if not there:
        raise CheckpointError(f"{path}: holds one set of weights and no {weights!r}: leave --weights out")
    if weights not in there:
        raise CheckpointError(f"{path}: holds no weights {weights!r}; --weights takes {some(there, ', ')}")
    return weights


def _several(name: str, others: list[str]) -> tuple[str, ...]:
    if not others:
        return ()
    one = len(others) == 1
    held = f"holds {', '.join(others)} and {name}: {name} is taken"
    return (f"{held}; --weights {'|'.join(others)} takes {'the other' if one else 'another'}",)


def unwrapped(file: Tensors) -> Tensors:
    """A view of the file without the wrappers that all its names share, and without the count of an AveragedModel."""
    prefix, names, said = "", set(file.specs), []
    while True:
        count = prefix + COUNT
        if count in names and file.specs[count].shape == () and _all_under(prefix + "module.", names - {count}):
            names.remove(count)
            said.append(f"left out {count}: how many weights were averaged")
        wrapper = next((w for w in WRAPPERS if _all_under(prefix + w, names)), None)
        if wrapper is None:
            break
        prefix += wrapper
    if not prefix:
        return file
    return replace(
        file,
        specs={name.removeprefix(prefix): spec for name, spec in file.specs.items() if name in names},
        read=lambda name: file.read(prefix + name),
        said=(*file.said, *said, f"{prefix!r} is taken off every name"),
    )


def _all_under(prefix: str, names: set[str]) -> bool:
    return bool(names) and all(name.startswith(prefix) and name != prefix for name in names)
