"""Opening checkpoints of any layout: what the models and the commands stand on."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vit_convert.config import ViTConfig
from vit_convert.describe import depth_of
from vit_convert.described import describe_file
from vit_convert.errors import CheckpointError, some
from vit_convert.files import Tensors, open_tensors, read_json
from vit_convert.hub import hub_shapes
from vit_convert.labels import fitting
from vit_convert.layouts import choose
from vit_convert.layouts.base import Beside, Spare
from vit_convert.preprocess import Preprocess
from vit_convert.processors.choose import choose_preprocess
from vit_convert.recognise import Recognised, recognise
from vit_convert.resolve import resolve
from vit_convert.rules import Move, Shape, check, convert, flip, infer, right_dtypes, right_shapes
from vit_convert.save import save_checkpoint
from vit_convert.steps import Step, cast, dtypes_after, is_floating, replace_head, resize_positions, through
from vit_convert.table import check_spare, layout_shapes, moves_of, spare_names, to_layout

__all__ = ["Checkpoint", "layout_shapes", "open_checkpoint", "save_checkpoint"]

FLOATING = ("float16", "bfloat16", "float32", "float64")
Named = tuple[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: everything but the data is known, and the tensors are checked to be the config's."""

    path: Path
    config: ViTConfig  # after what was asked for: image size, head
    layout: str
    sources: Mapping[str, str]  # ViTConfig field -> where its value came from
    preprocess: Preprocess | None
    labels: tuple[str, ...] | None
    dtypes: Mapping[str, np.dtype]  # native name -> dtype
    said: tuple[str, ...] = ()  # what was chosen, left out or changed on the way
    _file: Tensors = field(repr=False, kw_only=True)
    _table: tuple[Move, ...] = field(repr=False, kw_only=True)
    _spares: Mapping[str, Spare] = field(repr=False, kw_only=True)
    _steps: tuple[Step, ...] = field(repr=False, kw_only=True)
    _root: str = field(default="", repr=False, kw_only=True)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the weights are read from, an index of shards among them."""
        return (self._file.path, *self._file.shards)

    @property
    def answers(self) -> Literal["labels", "embedding", "features"]:
        """What the output is: logits of classes; a projection into a space shared with another model, as CLIP's; or
        pooled features, without a head.

        open_clip's heads are projections, and so is any head without a bias whose outputs the checkpoint doesn't name:
        so it stays known of a CLIP that was converted.
        """
        if not self.config.num_classes:
            return "features"
        projects = self.layout.startswith("open_clip:") or not self.config.head_bias
        return "embedding" if projects and self.labels is None else "labels"

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
        """Streams (name, C-contiguous array) in the names and shapes of a layout.

        Arrays may be views of the file: copy what you change and mean to keep.

        Raises:
            CheckpointError: the layout can't hold this model.
        """
        target, steps = choose(layout, self.config)
        hub = through((*self._steps, *steps), self._hub())
        return to_layout(target, steps[-1].config if steps else self.config, hub)

    def moves(self) -> Iterator[tuple[Move, tuple[Named, ...]]]:
        """Streams the moves to the hub, each with what it takes from the file: (name as it is there, array).

        What is spare has none; steps that were asked for come after it.
        """
        for move in self._table:
            if not self._spares.keys() & set(move.right.names):
                yield move, tuple((self._root + name, self._file.read(name)) for name in move.left.names)

    def _hub(self) -> Iterator[Named]:
        order = (name for move in self._table for name in move.left.names)
        for name, array in convert(self._table, self._file.stream(order), self._file.shapes):
            if name not in self._spares:
                yield name, array


def open_checkpoint(
    path: str | os.PathLike[str],
    *,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    image_size: int | tuple[int, int] | None = None,
    num_classes: int | None = None,
    dtype: npt.DTypeLike | None = None,
    weights: str | None = None,
) -> Checkpoint:
    """Opens a file, a directory or hf-hub:owner/name, of any layout; reads no data yet.

    Each config field comes from `overrides`, else the `preset`, else the config beside the file, else the family's
    code, else names and shapes; what none of them tells is asked for, never guessed.

    Args:
        image_size: resize the position table for this size, by the config's own rule.
        num_classes: 0 drops the head; another number than the file's puts a head of zeros there.
        dtype: cast floating tensors to it.
        weights: which of several in one file, such as "model" or "model_ema".

    An image size that is asked for, in either way, is also what the preprocessing then crops to.

    Raises:
        CheckpointError: no such file, not readable, no known layout, fields that nothing tells, or tensors that
            are missing, unexpected or misshapen: all kinds in one message.
    """
    opened = open_tensors(path, weights)
    beside = _beside(opened.path.parent)
    found = recognise(opened, beside)
    hub, unplaced = _understood(found)
    spares = {name: spare for name, spare in spare_names(found.layout, depth_of(hub)).items() if name in hub}
    model = {name: shape for name, shape in hub.items() if name not in spares}
    described = describe_file(found, hub, beside)
    stored, sources = resolve(str(path), model, described, preset, overrides or {}, unplaced)
    table = _checked(found, stored, spares, hub)
    stored_dtypes = _hub_dtypes(table, found.file, spares)
    steps = _asked(stored, stored_dtypes, image_size, num_classes, None if dtype is None else _floating(dtype))
    config = steps[-1].config if steps else stored
    asked = {"image_size": image_size, "num_classes": num_classes}
    sources |= {name: "given" for name, value in asked.items() if value is not None}
    preprocess, notes = choose_preprocess(described, stored, config, sources, preset)
    kept = config.num_classes == stored.num_classes
    changed = (step.said for step in steps if step.said)
    labels, stale = fitting(described.labels if kept else None, config)
    return Checkpoint(
        path=Path(path),
        config=config,
        layout=found.layout.name,
        sources=sources,
        preprocess=preprocess,
        labels=labels,
        dtypes=dtypes_after(steps, stored_dtypes),
        said=(*found.file.said, *_left_out(spares), *described.said, *stale, *changed, *notes),
        _file=found.file,
        _table=table,
        _spares=spares,
        _steps=steps,
        _root=found.root,
    )


def _understood(found: Recognised) -> tuple[dict[str, Shape], tuple[str, ...]]:
    """The hub names and shapes that the layout's table makes of the file, and the file's names that it has not."""
    return ({}, ()) if found.spelled is None else infer(found.layout.rules, found.spelled, found.file.shapes)


def _asked(
    stored: ViTConfig,
    dtypes: Mapping[str, np.dtype],
    image_size: int | tuple[int, int] | None,
    num_classes: int | None,
    dtype: np.dtype | None,
) -> tuple[Step, ...]:
    """The steps that the caller asked for; the last one's config is the checkpoint's."""
    steps: list[Step] = []
    config = stored
    try:
        if num_classes is not None:
            steps.append(replace_head(config, num_classes))
            config = steps[-1].config
        if image_size is not None:
            steps.append(resize_positions(config, image_size))
            config = steps[-1].config
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    if dtype is None or all(d == dtype for d in dtypes.values() if is_floating(d)):
        return tuple(steps)
    # What the other steps compute is rounded once: to the wider of both.
    widens = all(d.itemsize < dtype.itemsize for d in dtypes.values() if is_floating(d))
    return (cast(stored, dtype), *steps) if widens else (*steps, cast(config, dtype))


def _checked(
    found: Recognised, config: ViTConfig, spares: Mapping[str, Spare], hub: Mapping[str, Shape]
) -> tuple[Move, ...]:
    """The moves from the file to the hub, once all that can be wrong with it is known to be right."""
    layout, file = found.layout, found.file
    _check_depth(config, file)
    spellings = layout.spellings(config)
    if found.spelled is not None:
        spellings = {"block": spellings["block"], **found.spelled}
    moves = moves_of(layout, config, spellings, spares)
    right = hub_shapes(config) | {name: hub[name] for name in spares}
    what = f"{file.path}, read as {layout.name}: the tensors are not those of the config"
    check(right_shapes(flip(moves), right), file.shapes, what)
    _check_spares(found, config, moves, spares)
    return moves


def _check_spares(found: Recognised, config: ViTConfig, table: tuple[Move, ...], spares: Mapping[str, Spare]) -> None:
    """Reads the spare tensors whose values say something about the function: all are small."""
    checked = {name for name, spare in spares.items() if spare.check is not None}
    moves = tuple(move for move in table if checked & set(move.right.names))
    names = [name for move in moves for name in move.left.names]
    shapes = {name: found.file.shapes[name] for name in names}
    for name, array in convert(moves, found.file.stream(names), shapes):
        if name in checked:
            check_spare(name, spares[name], config, array, str(found.file.path))


def _hub_dtypes(table: tuple[Move, ...], file: Tensors, spares: Mapping[str, Spare]) -> dict[str, np.dtype]:
    return {name: dtype for name, dtype in right_dtypes(table, file.dtypes).items() if name not in spares}


def _floating(dtype: npt.DTypeLike) -> np.dtype:
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name not in FLOATING:
        raise CheckpointError(f"dtype {name!r}: expected one of {', '.join(FLOATING)}")
    return np.dtype(name)


def _left_out(spares: Mapping[str, Spare]) -> list[str]:
    return [f"left out {what}" for what in dict.fromkeys(spare.what for spare in spares.values())]


def _check_depth(config: ViTConfig, file: Tensors) -> None:
    """Refuses what no file of this size can hold, before its names are listed: there could be billions."""
    stacked = max((spec.shape[0] for spec in file.specs.values() if spec.shape), default=0)
    if config.depth > max(len(file.specs), stacked):
        raise CheckpointError(f"{file.path}: depth {config.depth} can't be: it has only {len(file.specs)} tensors")


def _beside(folder: Path) -> Beside:
    return lambda name: read_json(folder / name) if (folder / name).is_file() else None
