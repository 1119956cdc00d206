"""Whether a saved step holds the arrays that a run's state has: another version or another optax may have saved it."""

from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from train.config import ConfigError
from vit_convert.errors import some


def check_layout(folder: Path, state: Any) -> None:
    """Compares names and shapes of the arrays in `folder`, where Orbax saved a pytree, with those of `state`.

    Raises:
        ConfigError: they differ.
    """
    with closing(ocp.StandardCheckpointHandler()) as handler:
        saved = _shapes(handler.metadata(folder.absolute()).tree)  # pyright: ignore[reportArgumentType]
    expected = _shapes(state)
    wrong = [
        f"{name} {_told(saved.get(name))} there, and {_told(expected.get(name))} in this run"
        for name in sorted(saved | expected)
        if saved.get(name) != expected.get(name)
    ]
    if wrong:
        step = folder.parent
        raise ConfigError(
            f"{step} can't be gone on from: another version of vit-parity or optax saved it. {some(wrong, '; ', 3)}. "
            f"Go on with that version, or begin anew from its weights: --init {step} and another --workdir"
        )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """By each array's place in the tree, joined by dots: Orbax gives named tuples back as dicts."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): tuple(x.shape) for path, x in leaves}


def _told(shape: tuple[int, ...] | None) -> str:
    return "is missing" if shape is None else f"has shape {shape}"
