"""A saved step of vit-train as a state that both frameworks go on from: RUN/steps/N -> DST/config.json, DST/state.

Parameters, moments and averages go through the flax table, as weights do, one array at a time.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from vit_convert.ahead import ahead
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError, some
from vit_convert.files.orbax import open_tree, tree_in
from vit_convert.files.tensors import Spec, Tensors
from vit_convert.hub import hub_shapes
from vit_convert.layouts.native import FLAX
from vit_convert.place import check_place, directory
from vit_convert.progress import shown
from vit_convert.rules import convert, right_dtypes
from vit_convert.run_folder import CONFIG, find_step, open_run
from vit_convert.table import layout_shapes, some_moves
from vit_convert.training_state import EMA, FOLDER, MOMENTS, PARAMS, check_parts, split_name, stream_state

# What optax calls a moment -> what the state calls it. `trace` is the velocity of sgd's momentum, and of muon's.
OPTAX = {"mu": "mu", "nu": "nu", "trace": "mu"}
COUNT = "count"  # of the updates that Adam's moments have seen
OPT_STATE, STEP, MASKED = "opt_state", "step", "inner_state"
OURS = {CONFIG, FOLDER}  # what a converted run holds

Named = tuple[str, np.ndarray]


@dataclass(frozen=True)
class SavedStep:
    """A saved step of a run: everything but the data is known, and its arrays are checked to be the run's."""

    config_file: Path
    path: Path
    step: int  # updates made
    rule: str
    specs: Mapping[str, Spec]  # of the state that it becomes: params.NAME, mu.NAME, ...
    said: tuple[str, ...]  # what was found damaged
    _config: ViTConfig
    _file: Tensors
    _stored: Mapping[str, str]  # params.PATH, mu.PATH, ... by Flax path -> the file's own name

    @property
    def nbytes(self) -> int:
        """Of all arrays together."""
        return sum(prod(spec.shape) * spec.dtype.itemsize for spec in self.specs.values())

    def tensors(self) -> Iterator[Named]:
        """Streams (params.NAME, C-contiguous array) by hub name, in torch layout."""
        shapes = layout_shapes(FLAX, self._config)
        for part, paths in _by_part(self._stored).items():
            moves = some_moves(FLAX, self._config, paths)
            stream = ((path, self._file.read(self._stored[f"{part}.{path}"])) for path in paths)
            for name, array in convert(moves, stream, {path: shapes[path] for path in paths}):
                yield f"{part}.{name}", array


def open_saved(source: Path) -> SavedStep:
    """The last good step of a run's folder, or the named RUN/steps/N. Nothing is changed there.

    Raises:
        CheckpointError: no run, no whole step, a rule that has no portable state, or arrays that aren't the run's.
    """
    folder, at, said = find_step(source)
    run = open_run(folder)
    if run.rule not in MOMENTS:
        raise CheckpointError(
            f"{folder} is a run of {run.rule}, whose moments have no portable form; those of {', '.join(MOMENTS)} have"
        )
    tree = tree_in(at)
    if tree is None:
        raise CheckpointError(f"{at} is no step that Orbax wrote")
    file = open_tree(tree)
    stored, counts = _portable(at, file)
    found = {name: file.specs[own] for name, own in stored.items()}
    check_parts(run.rule, found, f"{at}: the arrays are not those of the run's model", layout_shapes(FLAX, run.model))
    if run.averages != any(split_name(name)[0] == EMA for name in stored):
        raise CheckpointError(f"{at}: ema_decay in {run.path / CONFIG} and the averages of the step don't fit")
    step = _agreed(at, {name: int(file.read(name)) for name in counts})
    return SavedStep(
        config_file=folder / CONFIG,
        path=at,
        step=step,
        rule=run.rule,
        specs=_hub_specs(run.model, found),
        said=said,
        _config=run.model,
        _file=file,
        _stored=stored,
    )


def write_run(dst: Path, saved: SavedStep, *, overwrite: bool = False, progress: bool = False) -> None:
    """Writes the run's folder beside `dst`, then renames.

    Raises:
        CheckpointError: `dst` exists or has no parent directory, the step can't be read, or `dst` not written.
    """
    place = dst.resolve()
    check_place(place, overwrite, OURS)
    stream = ahead(saved.tensors())
    with directory(place) as beside:
        (beside / CONFIG).write_bytes(saved.config_file.read_bytes())
        counted = shown(stream, saved.nbytes, "converting") if progress else stream
        stream_state(beside / FOLDER, saved.step, saved.rule, saved.specs, counted)


def _portable(at: Path, file: Tensors) -> tuple[dict[str, str], list[str]]:
    """(params.PATH, mu.PATH, ... -> the file's own name; names of the counts) of a tree of train.step.State."""
    stored: dict[str, str] = {}
    counts, others = [], []
    for name in file.specs:
        kind, path = _kind(name)
        if kind in (STEP, COUNT) and not path and file.specs[name].shape == ():
            counts.append(name)
        elif kind in (PARAMS, EMA, *OPTAX) and path:
            stored[f"{OPTAX.get(kind, kind)}.{path}"] = name
        else:
            others.append(name)
    if others or STEP not in counts:
        odd = f"unexpected: {some(others, ', ')}" if others else f"{STEP} is missing"
        raise CheckpointError(f"{at} is no step that vit-train saved; {odd}")
    return stored, counts


def _kind(name: str) -> tuple[str, str]:
    """(what it is, of which parameter): opt_state.1.0.mu.norm.scale -> mu, norm.scale. Numbers are of optax.chain, and
    inner_state is of optax.masked."""
    keys = name.split(".")
    if keys[0] == OPT_STATE:
        keys = keys[1:]
        while keys and (keys[0].isdecimal() or keys[0] == MASKED):
            keys = keys[1:]
    return (keys[0], ".".join(keys[1:])) if keys else ("", "")


def _agreed(at: Path, counts: Mapping[str, int]) -> int:
    step = counts[STEP]
    others = {count for count in counts.values() if count != step}
    if others:
        raise CheckpointError(
            f"{at}: of {step} steps {step - min(others)} updates were left out (on_nonfinite skip), and a state "
            "for both frameworks counts steps and updates as one; take a step from before they were left out"
        )
    return step


def _hub_specs(config: ViTConfig, found: Mapping[str, Spec]) -> dict[str, Spec]:
    shapes, specs = hub_shapes(config), {}
    for part, paths in _by_part(found).items():
        moves = some_moves(FLAX, config, paths)
        dtypes = right_dtypes(moves, {path: found[f"{part}.{path}"].dtype for path in paths})
        specs |= {f"{part}.{name}": Spec(shapes[name], dtype) for name, dtype in dtypes.items()}
    return specs


def _by_part(names: Iterable[str]) -> dict[str, dict[str, None]]:
    """Part -> its paths, in order."""
    parts: dict[str, dict[str, None]] = {}
    for part, path in map(split_name, names):
        parts.setdefault(part, {})[path] = None
    return parts
