"""A layout's table for one model: which moves of it apply, what they need, and what stands beside the model."""

from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.hub import hub_shapes
from vit_convert.layouts.base import Layout, Spare
from vit_convert.rules import Move, Shape, Spelling, active, convert, flip, plan, right_dtypes, right_shapes

Named = tuple[str, np.ndarray]


def moves_of(
    layout: Layout, config: ViTConfig, spellings: Mapping[str, Spelling] | None = None, spares: Iterable[str] = ()
) -> tuple[Move, ...]:
    """The moves from the layout to the hub, and to those of its spare tensors that are named.

    Raises:
        CheckpointError: the layout has no place for this model.
    """
    spellings = layout.spellings(config) if spellings is None else spellings
    sizes = {"heads": config.num_heads}
    return active(plan(layout.rules, spellings, sizes), {*hub_shapes(config), *spares})


def layout_shapes(layout: Layout, config: ViTConfig) -> dict[str, Shape]:
    """Name -> shape of every tensor that a file of this layout has for this config.

    Raises:
        CheckpointError: the layout can't hold this model.
    """
    spares = made(layout, config)
    shapes = hub_shapes(config) | {name: array.shape for name, array in spares.items()}
    return right_shapes(flip(moves_of(layout, config, spares=spares)), shapes)


def layout_dtypes(layout: Layout, config: ViTConfig, hub: Mapping[str, np.dtype]) -> dict[str, np.dtype]:
    """The same for dtypes, from those of the hub's tensors."""
    spares, like = made(layout, config), alike(layout, config.depth)
    dtypes = {**hub, **{name: hub.get(like[name], array.dtype) for name, array in spares.items()}}
    return right_dtypes(flip(moves_of(layout, config, spares=spares)), dtypes)


def to_layout(layout: Layout, config: ViTConfig, tensors: Iterable[Named]) -> Iterator[Named]:
    """Streams hub (name, array) into a layout, its spare tensors at the end.

    Raises:
        CheckpointError: the layout can't hold this model, or the tensors are not those of the config.
    """
    spares = made(layout, config)
    shapes = hub_shapes(config) | {name: array.shape for name, array in spares.items()}
    moves = flip(moves_of(layout, config, spares=spares))
    return convert(moves, _with_spares(tensors, spares, alike(layout, config.depth)), shapes)


def from_layout(layout: Layout, config: ViTConfig, tensors: Iterable[Named]) -> Iterator[Named]:
    """Streams (name, array) of a file as we write it into the hub, without what is spare."""
    spares = made(layout, config)
    stream = convert(moves_of(layout, config, spares=spares), tensors, layout_shapes(layout, config))
    return (pair for pair in stream if pair[0] not in spares)


def some_moves(layout: Layout, config: ViTConfig, names: Collection[str]) -> tuple[Move, ...]:
    """The moves from the layout to the hub that these names of the layout suffice for: a training state has moments of
    trained parameters alone.

    Raises:
        CheckpointError: the layout has no place for this model.
    """
    return tuple(move for move in moves_of(layout, config) if all(name in names for name in move.left.names))


def made(layout: Layout, config: ViTConfig) -> dict[str, np.ndarray]:
    """The spare tensors that the layout writes beside the model."""
    spares: dict[str, np.ndarray] = {}
    for spare in layout.spares:
        array = spare.make(config) if spare.make is not None else None
        if array is not None:
            spares |= dict.fromkeys(spare.names(config.depth), array)
    return spares


def spare_names(layout: Layout, depth: int) -> dict[str, Spare]:
    """Right-hand name -> spare, of all that a model of this depth can have."""
    return {name: spare for spare in layout.spares for name in spare.names(depth)}


def alike(layout: Layout, depth: int) -> dict[str, str]:
    """Right-hand name of a spare -> the hub tensor whose dtype it is given."""
    names = [pair for spare in layout.spares for pair in zip(spare.names(depth), spare.likes(depth), strict=True)]
    return dict(names)


def check_spare(name: str, spare: Spare, config: ViTConfig, array: np.ndarray, what: str) -> None:
    """Raises CheckpointError if a spare tensor says that the function is another."""
    try:
        assert spare.check is not None
        spare.check(config, array)
    except ValueError as error:
        raise CheckpointError(f"{what}: {name}: {error}") from None


def _with_spares(
    tensors: Iterable[Named], spares: Mapping[str, np.ndarray], like: Mapping[str, str]
) -> Iterator[Named]:
    dtypes: dict[str, np.dtype] = {}
    for name, array in tensors:
        dtypes[name] = array.dtype
        yield name, array
    yield from ((name, array.astype(dtypes.get(like[name], array.dtype))) for name, array in spares.items())
