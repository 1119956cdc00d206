"""RUN/state: the state of a run that vit-convert or the torch loop left there, placed on the devices to go on from.

Its arrays are named by hub names and lie in torch layout (vit_convert/training_state.py); they go through the flax
table, as weights do.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.tree_util import DictKey, GetAttrKey

from train.config import ConfigError
from train.devices import hosts
from train.devices.placement import put
from train.model import abstract_state
from train.step import State, Step
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError, some
from vit_convert.hub import hub_shapes
from vit_convert.layouts.native import FLAX, hub_name
from vit_convert.rules import check, convert, flip
from vit_convert.run_state import COUNT, OPTAX, STEP
from vit_convert.table import some_moves
from vit_convert.training_state import FOLDER, TrainingState, read_state, split_name

Leaf = tuple[str, str]  # (params, mu, nu, ema; Flax path), or (step, "")


@dataclass(frozen=True)
class Portable:
    """A state that is checked to be the run's."""

    folder: Path
    saved: TrainingState
    model: ViTConfig

    @property
    def step(self) -> int:
        """Updates made."""
        return self.saved.step

    @property
    def rule(self) -> str:
        """One of vit_convert.training_state.MOMENTS."""
        return self.saved.rule

    def state(self, abstract: State) -> State:
        """The state, each array where `abstract` (jax.ShapeDtypeStruct with shardings) has it."""
        leaves = [(leaf_of(keys), x) for keys, x in jax.tree.leaves_with_path(abstract)]
        where = {leaf: x.sharding for leaf, x in leaves}
        placed = {leaf: put(array, where[leaf]) for leaf, array in self._arrays(where)}

        def fill(keys: tuple[Any, ...], x: Any) -> Array:
            leaf = leaf_of(keys)
            return put(np.asarray(self.step, x.dtype), x.sharding) if leaf[0] == STEP else placed[leaf]

        return jax.tree.map_with_path(fill, abstract)

    def _arrays(self, leaves: Mapping[Leaf, Any]) -> Iterator[tuple[Leaf, np.ndarray]]:
        """Streams the arrays in Flax's names and layout."""
        for part, of in self.saved.parts().items():
            paths = {path for kind, path in leaves if kind == part}
            moves = flip(some_moves(FLAX, self.model, paths))
            for path, array in convert(moves, of.items(), {name: x.shape for name, x in of.items()}):
                yield (part, path), array


def open_portable(workdir: Path, step: Step) -> Portable | None:
    """The state in the run's folder, or None where there is none. All hosts have to call it.

    Raises:
        ConfigError: it can't be read, or is the state of another model, of another rule, or of the run's end.
    """
    found = hosts.together(lambda: _open(workdir / FOLDER, step))
    told = hosts.gather_numbers(-1 if found is None else found.step)
    if len(set(told)) > 1:
        steps = ", ".join(f"process {i}: {'none' if at < 0 else f'step {at}'}" for i, (at,) in enumerate(told))
        raise ConfigError(f"{workdir / FOLDER} is not the same on all hosts ({steps}): they have to share the folder")
    return found


def leaf_of(keys: tuple[Any, ...]) -> Leaf:
    """What the leaf of a State at this path of its tree is called in a portable state."""
    kind = [str(key.name) for key in keys if isinstance(key, GetAttrKey)][-1]
    path = next((str(key.key) for key in keys if isinstance(key, DictKey)), "")
    return (STEP, "") if kind in (STEP, COUNT) else (OPTAX.get(kind, kind), path)


def _open(folder: Path, step: Step) -> Portable | None:
    if not folder.exists():
        return None
    try:
        saved = read_state(folder)
        _check(folder, saved, step)
    except CheckpointError as error:
        advice = f"Nothing was changed: put this run's own state there, or remove {folder}"
        raise ConfigError(f"{error}\n{advice}") from error
    return Portable(folder, saved, step.config.model)


def _check(folder: Path, saved: TrainingState, step: Step) -> None:
    """
    Raises:
        CheckpointError: it isn't this run's; all missing, unexpected and misshapen arrays in one message.
    """
    rule, total = step.config.optimizer.name, step.total_steps
    if saved.rule != rule:
        raise CheckpointError(f"{folder} is a state of {saved.rule}, and optimizer.name is {rule}")
    if saved.step >= total:
        raise CheckpointError(
            f"{folder} is the state after {saved.step:,} steps, and the run has {total:,}: none is left"
        )
    found = {f"{part}.{name}": x for part, of in saved.parts().items() for name, x in of.items()}
    leaves = [(*leaf_of(keys), x.dtype) for keys, x in jax.tree.leaves_with_path(abstract_state(step))]
    shapes, dtypes = hub_shapes(step.config.model), {f"{part}.{hub_name(path)}": d for part, path, d in leaves if path}
    wanted = {name: shapes[split_name(name)[1]] for name in dtypes}
    check(wanted, {name: x.shape for name, x in found.items()}, f"{folder} is no state of this run")
    odd = [f"{name}: expected {d}, got {found[name].dtype}" for name, d in dtypes.items() if found[name].dtype != d]
    if odd:
        raise CheckpointError(f"{folder} is no state of this run\n  {len(odd)} of another dtype:\n    {some(odd)}")
