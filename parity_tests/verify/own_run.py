"""The checkpoint's own class at work: what its blocks take and give, and its gradients, by our names."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from parity_tests.pairs import Arrays
from parity_tests.verify.original import Original, Refused, first_line
from parity_tests.verify.source import Source
from vit_convert.checkpoint import open_checkpoint
from vit_convert.errors import CheckpointError

IMAGES = "images"  # among the names of tensors: their gradient


class Unnamed(Exception):
    """There are gradients of the weights, and they can't be called by our names: why."""


class Blocks(NamedTuple):
    """What the class's blocks were found to be."""

    arrays: dict[str, np.ndarray]  # what the first takes and each gives, by our names, (B, T, D); the output; float64
    modules: tuple[nn.Module, ...]


def run_blocks(original: Original, images: np.ndarray, depth: int) -> Blocks:
    """Its output, and what its blocks are given and give, where it has a list of as many.

    Raises:
        Refused: it doesn't run, or gives what isn't finite.
    """
    lists = [module for module in original.model.modules() if _is_list(module, depth)]
    given: dict[tuple[int, int], list[np.ndarray]] = {}
    taken: dict[int, list[np.ndarray]] = {}
    hooks = [
        next(blocks.children()).register_forward_pre_hook(_taker(taken.setdefault(i, [])), with_kwargs=True)
        for i, blocks in enumerate(lists)
    ]
    hooks += [
        block.register_forward_hook(_keeper(given.setdefault((i, j), [])))
        for i, blocks in enumerate(lists)
        for j, block in enumerate(blocks.children())
    ]
    try:
        output = original.answer(images)
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise Refused(f"{original.name} doesn't run on these images: {first_line(error)}") from error
    finally:
        for hook in hooks:
            hook.remove()
    found = _of_blocks(given, taken, lists, depth)
    found.arrays["output"] = output
    if broken := [name for name, array in found.arrays.items() if not np.isfinite(array).all()]:
        raise Refused(f"{original.name} gives values that are NaN or infinite, the first in {broken[0]}")
    return found


def gradients(original: Original, images: np.ndarray, cotangent: np.ndarray) -> tuple[np.ndarray, list[torch.Tensor]]:
    """Of sum(output * cotangent): by the images, (B, H, W, C), and by each of the class's parameters. float64.

    Raises:
        Refused: it has none, or some that aren't finite.
    """
    params = list(original.model.requires_grad_(True).parameters())  # a table of positions may be frozen in its class
    try:
        of_images, of_params = original.answer.gradients(images, cotangent, params)
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise Refused(f"{original.name} gives no gradient of these images: {first_line(error)}") from error
    if not np.isfinite(of_images).all():
        raise Refused(f"{original.name} gives a gradient of the images that is NaN or infinite")
    if not all(torch.isfinite(grad).all() for grad in of_params):
        raise Refused(f"{original.name} gives gradients of its weights that are NaN or infinite")
    return of_images, of_params


def rounded_outputs(original: Original, images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray | str]:
    """Its output in each of these dtypes, of images that the dtype holds: float64, or why there is none."""
    found: dict[str, np.ndarray | str] = {}
    for dtype, array in images.items():
        try:
            output = original.answer.rounded(deepcopy(original.model), array, getattr(torch, dtype))
            found[dtype] = output if np.isfinite(output).all() else "it gives values that are NaN or infinite"
        except MemoryError:
            raise
        except Exception as error:  # as above
            found[dtype] = first_line(error)
    return found


def in_hub_names(original: Original, source: Source, of_params: list[torch.Tensor]) -> Arrays:
    """Gradients of the class's parameters by hub name, in torch layout.

    A table of tensors moves them and never computes with them, so what it makes of the gradients is what a gradient of
    the moved weights would be. The class itself says what a parameter is called in its file: the gradients take the
    place of the weights, and are saved and opened as a checkpoint is. Neither the model nor the list, which is emptied,
    is of use afterwards.

    Raises:
        Unnamed: they can't be saved, or what was saved isn't read as the checkpoint is.
    """
    for param in original.model.parameters():
        # copied, for some are views of one array, and then let go of
        param.data = of_params.pop(0).clone(memory_format=torch.contiguous_format)
    with TemporaryDirectory() as folder:
        try:
            original.save(Path(folder))
            answers = {**source.answers, "weights": None}  # of several in one file these are the only ones now
            return {name: np.array(array) for name, array in open_checkpoint(folder, **answers).tensors()}
        except MemoryError:
            raise
        except CheckpointError as error:
            raise Unnamed(first_line(error)) from error
        except Exception as error:  # as above
            raise Unnamed(f"{original.name} doesn't save them: {first_line(error)}") from error


def _of_blocks(
    given: Mapping[tuple[int, int], list[np.ndarray]],
    taken: Mapping[int, list[np.ndarray]],
    lists: list[nn.Module],
    depth: int,
) -> Blocks:
    """What the first list took and gave whose every module ran once and gave tokens; empty where none did."""
    for i, blocks in enumerate(lists):
        found = [given[i, j] for j in range(depth)]
        if all(len(arrays) == 1 and arrays[0].ndim == 3 for arrays in found):
            entering = {"embeddings": taken[i][0]} if taken[i] else {}
            arrays = entering | {f"blocks.{j}": arrays[0] for j, arrays in enumerate(found)}
            return Blocks(arrays, tuple(blocks.children()))
    return Blocks({}, ())


def _is_list(module: nn.Module, depth: int) -> bool:
    """Whether it may be the list of a model's blocks: so many modules of one class."""
    many = isinstance(module, nn.ModuleList | nn.Sequential) and len(module) == depth
    return many and len({type(child) for child in module.children()}) == 1


def _keeper(into: list[np.ndarray]) -> Callable[[nn.Module, Any, Any], None]:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        if isinstance(tensor, torch.Tensor):
            into.append(tensor.detach().double().numpy())

    return keep


def _taker(into: list[np.ndarray]) -> Callable[[nn.Module, Any, Any], None]:
    """Keeps the tokens that a block is given, by position or by name. A copy: a class may add to them in place."""

    def take(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        tokens = [x for x in (*inputs, *named.values()) if isinstance(x, torch.Tensor) and x.ndim == 3]
        into.extend(tensor.detach().double().numpy().copy() for tensor in tokens[:1])

    return take
