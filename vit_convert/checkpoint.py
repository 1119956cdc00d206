"""Opening and saving checkpoints of any layout: what the models and the commands stand on."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_convert.config import ViTConfig
from vit_convert.contiguous import contiguous
from vit_convert.errors import CheckpointError, some
from vit_convert.files import WEIGHTS, Spec, Tensors, open_tensors, read_json, write_safetensors
from vit_convert.hub import hub_shapes
from vit_convert.layouts import LAYOUTS, Layout, get_layout
from vit_convert.layouts.base import Described, Json
from vit_convert.place import check_place, directory
from vit_convert.preprocess import Preprocess
from vit_convert.resolve import CONFIG, resolve
from vit_convert.rules import (
    Spelling,
    Step,
    active,
    check,
    convert,
    flip,
    infer,
    plan,
    right_dtypes,
    right_shapes,
)
from vit_convert.steps import resize_positions

FLOATING = ("float16", "bfloat16", "float32", "float64")
Named = tuple[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: everything but the data is known, and the tensors are checked to be the config's."""

    path: Path
    config: ViTConfig  # at the image size asked for
    layout: str
    sources: Mapping[str, str]  # ViTConfig field -> where its value came from
    preprocess: Preprocess | None
    labels: tuple[str, ...] | None
    dtypes: Mapping[str, np.dtype]  # native name -> dtype
    said: tuple[str, ...] = ()  # what was changed on the way
    _file: Tensors = field(repr=False, kw_only=True)
    _stored: ViTConfig = field(repr=False, kw_only=True)  # at the file's own image size
    _steps: tuple[Step, ...] = field(repr=False, kw_only=True)

    def check_floating(self) -> None:
        """Raises CheckpointError for tensors of dtypes that no model computes in, such as int8: all are named.

        Converting keeps them, bit for bit; a model can't be made of them.
        """
        odd = [f"{name} {dtype}" for name, dtype in self.dtypes.items() if dtype.name not in FLOATING]
        if odd:
            raise CheckpointError(
                f"{self.path}: a model needs {', '.join(FLOATING)}; {len(odd)} tensors are of other dtypes:\n    "
                + some(odd)
            )

    def tensors(self, layout: str = "native") -> Iterator[Named]:
        """Streams (name, C-contiguous array) in the names and shapes of a layout, dtypes as in the file.

        Arrays may be views of the file: copy what you change and mean to keep.

        Raises:
            CheckpointError: the layout can't hold this model.
        """
        order = (name for step in self._steps for name in step.left.names)
        stream = convert(self._steps, self._file.stream(order), self._file.shapes)
        if self.config != self._stored:
            stream = resize_positions(self._stored, stream, self.config.image_hw).tensors
        return from_hub(get_layout(layout), self.config, stream)


def open_checkpoint(
    path: str | os.PathLike[str],
    *,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    image_size: int | tuple[int, int] | None = None,
) -> Checkpoint:
    """Opens a file or directory of any layout; reads no data yet.

    Each config field comes from `overrides`, else the `preset`, else the config beside the file, else names and
    shapes; what none of them tells is asked for, never guessed.

    Args:
        image_size: resize the position table for this size, by the config's own rule.

    An image size that is asked for, in either way, is also what the preprocessing then crops to.

    Raises:
        CheckpointError: no such file, not readable, no known layout, fields that nothing tells, or tensors that
            are missing, unexpected or misshapen: all kinds in one message.
    """
    file = open_tensors(path)
    beside = _beside(file.path.parent)
    raw = beside(CONFIG)
    layout, spelled = _recognise(file, raw)
    described = _read_config(layout, raw, beside, file.path.parent)
    hub, unplaced = infer(layout.rules, spelled, file.shapes) if spelled is not None else ({}, ())
    config, sources = resolve(str(path), hub, described, preset, overrides or {}, unplaced)
    _check_depth(config, file)
    spellings = layout.spellings(config) if spelled is None else {**spelled, "block": range(config.depth)}
    to_hub = _checked(layout, config, spellings, file)
    stored, said = config, ()
    if image_size is not None:
        config, said = _resized(config, image_size)
        sources["image_size"] = "given"
    preprocess = described.preprocess
    if preprocess and preprocess.crop != config.image_hw and sources["image_size"] in ("given", f"preset {preset}"):
        preprocess = preprocess.resized(config.image_hw)
        said += (f"preprocessing follows the image size: resize to {preprocess.resize}, crop to {preprocess.crop}",)
    return Checkpoint(
        path=Path(path),
        config=config,
        layout=layout.name,
        sources=sources,
        preprocess=preprocess,
        labels=_fitting_labels(described.labels, config, str(path)),
        dtypes=right_dtypes(to_hub, file.dtypes),
        said=said,
        _file=file,
        _stored=stored,
        _steps=to_hub,
    )


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
            directory, labels that don't match the head, or tensors that are not those of the config.
    """
    target = get_layout(layout)
    target.check(config)
    labels = _fitting_labels(tuple(labels) if labels else None, config, "labels given", strict=True)
    files = target.write(config, preprocess, labels)
    source = get_layout(tensors_layout)
    if dtypes is None:
        tensors = [(name, np.asarray(array)) for name, array in tensors]
        check(layout_shapes(source, config), _once(tensors), "tensors given")
        dtypes = {name: array.dtype for name, array in tensors}
    named = {name: np.dtype(dtype) for name, dtype in dtypes.items()}
    lacking = sorted(set(layout_shapes(source, config)) - set(named))
    if lacking:
        raise CheckpointError(f"dtypes given: none for {some(lacking, ', ')}")
    dst = Path(dst).resolve()
    check_place(dst, overwrite)
    shapes, hub_dtypes = layout_shapes(target, config), right_dtypes(_steps(source, config), named)
    out_dtypes = right_dtypes(flip(_steps(target, config)), hub_dtypes)
    specs = {name: Spec(shape, out_dtypes[name]) for name, shape in shapes.items()}
    stream = _between(source, target, config, tensors)
    with directory(dst) as folder:
        write_safetensors(folder / WEIGHTS, specs, stream, files.metadata)
        for name, content in files.files.items():
            (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if preprocess and preprocess.crop != config.image_hw:
        crop, size = ("x".join(map(str, pair)) for pair in (preprocess.crop, config.image_hw))
        return (*files.notes, f"preprocessing crops to {crop}, the config's image_size is {size}")
    return files.notes


def layout_shapes(layout: Layout, config: ViTConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor that this layout has for this config.

    Raises:
        CheckpointError: the layout can't hold this model.
    """
    return right_shapes(flip(_steps(layout, config)), hub_shapes(config))


def from_hub(layout: Layout, config: ViTConfig, tensors: Iterable[Named]) -> Iterator[Named]:
    """Streams native (name, array) into a layout.

    Raises:
        CheckpointError: the layout can't hold this model, or the tensors are not those of the config.
    """
    layout.check(config)
    return convert(flip(_steps(layout, config)), tensors, hub_shapes(config))


def _between(source: Layout, target: Layout, config: ViTConfig, tensors: Iterable[Named]) -> Iterator[Named]:
    arrays = ((name, np.asarray(array)) for name, array in tensors)
    if source.name == target.name:
        return ((name, contiguous(array)) for name, array in arrays)
    return from_hub(target, config, convert(_steps(source, config), arrays, layout_shapes(source, config)))


def _steps(layout: Layout, config: ViTConfig) -> tuple[Step, ...]:
    return active(plan(layout.rules, layout.spellings(config)), hub_shapes(config))


def _checked(layout: Layout, config: ViTConfig, spellings: Mapping[str, Spelling], file: Tensors) -> tuple[Step, ...]:
    """The steps from the file to the hub, once every name and shape is known to be right."""
    hub = hub_shapes(config)
    steps = active(plan(layout.rules, spellings), hub)
    check(right_shapes(flip(steps), hub), file.shapes, f"{file.path}, read as {layout.name}")
    return steps


def _check_depth(config: ViTConfig, file: Tensors) -> None:
    """Refuses what no file of this size can hold, before its names are listed: there could be billions."""
    if config.depth > len(file.specs):
        raise CheckpointError(f"{file.path}: depth {config.depth} can't be: it has only {len(file.specs)} tensors")


def _resized(config: ViTConfig, image_size: int | tuple[int, int]) -> tuple[ViTConfig, tuple[str, ...]]:
    try:
        change = resize_positions(config, (), image_size)
    except ValueError as error:
        raise CheckpointError(f"image_size {image_size}: {error}") from None
    return change.config, () if change.config == config else (change.said,)


def _recognise(file: Tensors, raw: Json | None) -> tuple[Layout, Mapping[str, Spelling] | None]:
    """The layout, by the config beside the file or else by its names, and what fills its rules' holes."""
    owner = next((layout for layout in LAYOUTS.values() if raw is not None and layout.owns(raw)), None)
    if owner and (spelled := owner.recognise(file.specs)) is not None:
        return owner, spelled
    for layout in LAYOUTS.values():
        if (spelled := layout.recognise(file.specs)) is not None:
            if owner:
                raise CheckpointError(f"{file.path}: {CONFIG} is of layout {owner.name}, the names are {layout.name}'s")
            return layout, spelled
    if owner:
        return owner, None
    first = ", ".join(list(file.specs)[:5]) or "none at all"
    raise CheckpointError(f"{file.path}: no known layout ({', '.join(sorted(LAYOUTS))}) has these names: {first}")


def _read_config(layout: Layout, raw: Json | None, beside: Any, folder: Path) -> Described:
    if raw is None:
        return Described()
    if not layout.owns(raw):
        return Described(hint=f"{CONFIG} beside it is of no layout that is read")
    try:
        return layout.read(raw, beside)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: not as {layout.name} writes it ({error})") from None


def _beside(folder: Path) -> Any:
    return lambda name: read_json(folder / name) if (folder / name).is_file() else None


def _fitting_labels(
    labels: tuple[str, ...] | None, config: ViTConfig, what: str, strict: bool = False
) -> tuple[str, ...] | None:
    if not labels or (not config.num_classes and not strict):
        return None
    if len(labels) != config.num_classes:
        raise CheckpointError(f"{what}: {len(labels)} labels for a head of {config.num_classes} classes")
    return labels


def _once(tensors: Sequence[Named]) -> dict[str, tuple[int, ...]]:
    shapes = {name: array.shape for name, array in tensors}
    if len(shapes) != len(tensors):
        names = [name for name, _ in tensors]
        raise CheckpointError(f"given twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
    return shapes
