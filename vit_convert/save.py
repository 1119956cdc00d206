"""Saving checkpoints in any layout: a complete directory, or nothing."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vit_convert.ahead import ahead
from vit_convert.config import ViTConfig
from vit_convert.contiguous import contiguous
from vit_convert.errors import CheckpointError, some
from vit_convert.files import Spec, write_tensors
from vit_convert.labels import one_each
from vit_convert.layouts import choose, get_layout
from vit_convert.layouts.base import Files, Layout
from vit_convert.place import check_place, directory
from vit_convert.preprocess import Preprocess
from vit_convert.progress import shown
from vit_convert.rules import check, right_dtypes
from vit_convert.steps import Step, dtypes_after, through
from vit_convert.table import Named, from_layout, layout_dtypes, layout_shapes, moves_of, to_layout


@dataclass(frozen=True)
class Plan:
    """What a directory will hold, known before anything is written."""

    layout: Layout
    config: ViTConfig  # as the layout holds it, after `steps`
    steps: tuple[Step, ...]
    files: Files
    specs: Mapping[str, Spec]
    notes: tuple[str, ...]  # what is changed on the way, and what the layout can't say

    @property
    def nbytes(self) -> int:
        """Of all tensors together."""
        return sum(prod(spec.shape) * spec.dtype.itemsize for spec in self.specs.values())


def plan_save(
    config: ViTConfig,
    dtypes: Mapping[str, npt.DTypeLike],
    layout: str,
    preprocess: Preprocess | None = None,
    labels: Sequence[str] | None = None,
) -> Plan:
    """What saving in a layout, or in the fitting one of a library, would write.

    Args:
        dtypes: hub name -> dtype.

    Raises:
        CheckpointError: the layout can't hold this model, or labels that don't match the head.
    """
    target, steps = choose(layout, config)
    held = steps[-1].config if steps else config
    named = one_each(tuple(labels) if labels else None, config, "labels given")
    files = target.write(held, preprocess, named)
    hub = {name: np.dtype(dtype) for name, dtype in dtypes.items()}
    out = layout_dtypes(target, held, dtypes_after(steps, hub))
    specs = {name: Spec(shape, out[name]) for name, shape in layout_shapes(target, held).items()}
    notes = (*(step.said for step in steps), *files.notes, *_crop_note(preprocess, config))
    return Plan(target, held, steps, files, specs, notes)


def save_checkpoint(
    dst: str | os.PathLike[str],
    config: ViTConfig,
    tensors: Iterable[Named],
    *,
    tensors_layout: str = "native",
    dtypes: Mapping[str, npt.DTypeLike] | None = None,
    layout: str = "native",
    preprocess: Preprocess | None = None,
    labels: Sequence[str] | None = None,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Writes a complete checkpoint directory: beside its place first, then renamed. Returns what it can't say.

    Args:
        tensors: (name, array) in the names and shapes of `tensors_layout`, in any order.
        dtypes: name -> dtype of each of them; without it they are gathered first instead of streamed.
        overwrite: replace an existing checkpoint directory; if writing fails, the old one is still there.

    Raises:
        CheckpointError: the layout can't hold this model (nothing is written then), `dst` exists or has no parent
            directory, labels that don't match the head, or tensors that are not those of the config or can't be read.
    """
    choose(layout, config)  # what can't be held is said before anything is gathered
    source = get_layout(tensors_layout)
    if dtypes is None:
        tensors = [(name, np.asarray(array)) for name, array in tensors]
        check(layout_shapes(source, config), _once(tensors), "the tensors given are not those of the config")
        dtypes = {name: array.dtype for name, array in tensors}
    named = {name: np.dtype(dtype) for name, dtype in dtypes.items()}
    lacking = sorted(set(layout_shapes(source, config)) - set(named))
    if lacking:
        raise CheckpointError(f"dtypes given: none for {some(lacking, ', ')}")
    plan = plan_save(config, right_dtypes(moves_of(source, config), named), layout, preprocess, labels)
    check_place(Path(dst).resolve(), overwrite)
    _write(Path(dst).resolve(), plan, _between(source, plan, config, tensors))
    return plan.notes


def save_planned(
    dst: str | os.PathLike[str], plan: Plan, tensors: Iterable[Named], overwrite: bool = False, progress: bool = False
) -> None:
    """Writes what was planned, from hub tensors (name, array) before the plan's steps.

    Args:
        progress: show on a terminal how far it is, where that takes long.

    Raises:
        CheckpointError: `dst` exists or has no parent directory, or tensors that are not those of the config or can't
            be read.
    """
    place = Path(dst).resolve()
    check_place(place, overwrite)
    stream = ahead(to_layout(plan.layout, plan.config, through(plan.steps, tensors)))
    _write(place, plan, shown(stream, plan.nbytes, "converting") if progress else stream)


def _write(place: Path, plan: Plan, stream: Iterator[Named]) -> None:
    with directory(place) as folder:
        write_tensors(folder / plan.layout.weights_file, plan.specs, _reading(stream), plan.files.metadata)
        for name, content in plan.files.files.items():
            (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _reading(stream: Iterable[Named]) -> Iterator[Named]:
    """The stream, whose own failures are not those of writing: what the system says of both is an OSError."""
    try:
        yield from stream
    except OSError as error:
        raise CheckpointError(f"a tensor to be written can't be read: {error}") from error


def _between(source: Layout, plan: Plan, config: ViTConfig, tensors: Iterable[Named]) -> Iterator[Named]:
    arrays = ((name, np.asarray(array)) for name, array in tensors)
    if source.name == plan.layout.name and not plan.steps and not source.spares:
        return ((name, contiguous(array)) for name, array in arrays)
    hub = from_layout(source, config, arrays)
    return to_layout(plan.layout, plan.config, through(plan.steps, hub))


def _crop_note(preprocess: Preprocess | None, config: ViTConfig) -> list[str]:
    if not preprocess or preprocess.crop == config.image_hw:
        return []
    crop, size = ("x".join(map(str, pair)) for pair in (preprocess.crop, config.image_hw))
    return [f"preprocessing crops to {crop}, the config's image_size is {size}"]


def _once(tensors: Sequence[Named]) -> dict[str, tuple[int, ...]]:
    shapes = {name: array.shape for name, array in tensors}
    if len(shapes) != len(tensors):
        names = [name for name, _ in tensors]
        raise CheckpointError(f"given twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
    return shapes
