"""Opening checkpoints of any layout: what the models and the commands stand on."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError, some
from vit_convert.files import Tensors, open_tensors, read_json
from vit_convert.hub import hub_shapes
from vit_convert.labels import fitting
from vit_convert.layouts import choose
from vit_convert.layouts.base import Bare, Beside, Described, Spare
from vit_convert.layouts.native import read as read_ours
from vit_convert.preprocess import Preprocess
from vit_convert.presets import get_preset
from vit_convert.processors.known import known
from vit_convert.recognise import Recognised, recognise
from vit_convert.resolve import resolve
from vit_convert.rules import Move, Shape, check, convert, flip, infer, right_dtypes, right_shapes
from vit_convert.save import save_checkpoint
from vit_convert.steps import Step, cast, is_floating, replace_head, resize_positions
from vit_convert.table import check_spare, layout_shapes, moves_of, spare_names, to_layout

__all__ = ["Checkpoint", "layout_shapes", "open_checkpoint", "save_checkpoint"]

# Whose evaluation is that of a preset of theirs: their files have timm's names, and only the preset tells.
REPOSITORIES = ("dino", "mae")
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
        stream = self._hub()
        for step in (*self._steps, *steps):
            stream = step.apply(stream)
        return to_layout(target, steps[-1].config if steps else self.config, stream)

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
    file = open_tensors(path, weights)
    beside = _beside(file.path.parent)
    found = recognise(file, beside)
    layout, file = found.layout, found.file
    hub, unplaced = infer(layout.rules, found.spelled, file.shapes) if found.spelled is not None else ({}, ())
    described = _describe(found, hub, beside)
    depth = len({name.split(".")[1] for name in hub if name.startswith("blocks.")})
    spares = {name: spare for name, spare in spare_names(layout, depth).items() if name in hub}
    model = {name: shape for name, shape in hub.items() if name not in spares}
    config, sources = resolve(str(path), model, described, preset, overrides or {}, unplaced)
    _check_depth(config, file)
    table = _checked(found, config, spares, hub)
    _check_spares(found, config, table, spares)
    stored, found_dtypes = config, _hub_dtypes(table, file, spares)
    config, steps = _asked(stored, found_dtypes, image_size, num_classes, None if dtype is None else _floating(dtype))
    asked = {"image_size": image_size, "num_classes": num_classes}
    sources |= {name: "given" for name, value in asked.items() if value is not None}
    preprocess, followed = _follow(_preprocess(described, stored, preset), config, sources, preset)
    kept = config.num_classes == stored.num_classes
    return Checkpoint(
        path=Path(path),
        config=config,
        layout=layout.name,
        sources=sources,
        preprocess=preprocess,
        labels=fitting(described.labels, config, str(path)) if kept else None,
        dtypes=_after(steps, found_dtypes),
        said=(*file.said, *_left_out(spares), *(step.said for step in steps if step.said), *followed),
        _file=file,
        _table=table,
        _spares=spares,
        _steps=steps,
    )


def _describe(found: Recognised, hub: Mapping[str, Shape], beside: Beside) -> Described:
    """What the family's code, the tensors themselves and the config beside them say; the config wins, ours alone."""
    if found.ours:
        return _read(found, beside)
    bare = found.layout.bare(Bare(hub, found.file.shapes, found.file.read, found.file.path.stem))
    if found.config is None or not found.layout.owns(found.config):
        return replace(bare, hint="; ".join(filter(None, (bare.hint, _foreign(found)))))
    said = _read(found, beside)
    return replace(
        said,
        hint=said.hint or bare.hint,
        fields={**bare.fields, **said.fields},
        sources={**bare.sources, **dict.fromkeys(said.fields, found.layout.config_file), **said.sources},
        evaluation=bare.evaluation,
    )


def _foreign(found: Recognised) -> str:
    return "" if found.config is None else f"{found.layout.config_file} beside it is of no layout that is read"


def _read(found: Recognised, beside: Beside) -> Described:
    assert found.config is not None
    folder, layout = found.file.path.parent, found.layout
    try:
        return read_ours(found.config, beside) if found.ours else layout.read(found.config, beside)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        name = "config.json" if found.ours else layout.config_file
        raise CheckpointError(f"{folder / name}: not as {layout.name} writes it ({error})") from None


def _asked(
    stored: ViTConfig,
    dtypes: Mapping[str, np.dtype],
    image_size: int | tuple[int, int] | None,
    num_classes: int | None,
    dtype: np.dtype | None,
) -> tuple[ViTConfig, tuple[Step, ...]]:
    """The steps that the caller asked for, and the config after them."""
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
        return config, tuple(steps)
    # What the other steps compute is rounded once: to the wider of both.
    widens = all(d.itemsize < dtype.itemsize for d in dtypes.values() if is_floating(d))
    return config, (cast(stored, dtype), *steps) if widens else (*steps, cast(config, dtype))


def _preprocess(described: Described, config: ViTConfig, preset: str | None) -> Preprocess | None:
    """What the file says; or else how the family's own evaluation does it, or that of the preset's repository."""
    if described.preprocess or config.in_channels != 3:
        return described.preprocess
    origin = get_preset(preset).origin if preset else ""
    evaluation = described.evaluation or (origin if origin in REPOSITORIES else "")
    return known(evaluation, config.image_hw) if evaluation else None


def _follow(
    preprocess: Preprocess | None, config: ViTConfig, sources: Mapping[str, str], preset: str | None
) -> tuple[Preprocess | None, tuple[str, ...]]:
    """Preprocessing at the image size that the user chose."""
    if (
        not preprocess
        or preprocess.crop == config.image_hw
        or sources["image_size"] not in ("given", f"preset {preset}")
    ):
        return preprocess, ()
    preprocess = preprocess.resized(config.image_hw)
    said = f"preprocessing follows the image size: resize to {preprocess.resize}, crop to {preprocess.crop}"
    return preprocess, (said,)


def _checked(
    found: Recognised, config: ViTConfig, spares: Mapping[str, Spare], hub: Mapping[str, Shape]
) -> tuple[Move, ...]:
    """The moves from the file to the hub, once every name and shape is known to be right."""
    layout, file = found.layout, found.file
    spellings = layout.spellings(config)
    if found.spelled is not None:
        spellings = {"block": spellings["block"], **found.spelled}
    moves = moves_of(layout, config, spellings, spares)
    right = hub_shapes(config) | {name: hub[name] for name in spares}
    check(right_shapes(flip(moves), right), file.shapes, f"{file.path}, read as {layout.name}")
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


def _after(steps: tuple[Step, ...], dtypes: dict[str, np.dtype]) -> dict[str, np.dtype]:
    for step in steps:
        dtypes = step.dtypes(dtypes)
    return dtypes


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
