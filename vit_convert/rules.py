"""The engine: one table of rules per layout, read in either direction.

An einops pattern is a bijection: swap its sides and you have its inverse. The same holds for names with
holes. A rename, a transpose, a head split, a fused qkv and scan-stacked layers are all one construct.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from vit_convert.axes import Shape, flip_axes, rearranged, shape_through
from vit_convert.contiguous import bits, contiguous
from vit_convert.errors import CheckpointError, some

# What fills a hole: one text (a prefix: no axis, no repetition), or one entry per repetition, each spelled
# alike on both sides or as a pair (left, right). No entries at all: this file has none of the rules with that hole,
# as where one file packs what another of the same layout has apart.
Spelling = str | Sequence[str | int | tuple[str | int, str | int]]


@dataclass(frozen=True)
class Rule:
    """One weight as it is named and laid out on two sides: a foreign layout (left) and the hub (right).

    A {hole} in both names repeats the rule, as often as it has entries: never, where it has none. A {hole} in one
    name only is an axis of the other side's array: the arrays of that name are stacked on leading axes, in the
    order of the holes, which `axes` names first.

        Rule("layer.{block}.{part}.weight", "blocks.{block}.attn.qkv.weight", "part o c -> (part o) c")
    """

    left: str
    right: str
    axes: str = ""  # einops "left -> right"; empty where the arrays are equal

    def flip(self) -> "Rule":
        """The inverse rule."""
        return Rule(self.right, self.left, flip_axes(self.axes))


@dataclass(frozen=True)
class Side:
    """The names of one side of a move, in row-major order over `stack`: one size for each one-sided hole."""

    names: tuple[str, ...]
    stack: Shape = ()


@dataclass(frozen=True)
class Move:
    """A rule with its shared holes filled: these arrays on the left are those on the right."""

    left: Side
    right: Side
    axes: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)  # of axes that a shape alone doesn't tell

    def flip(self) -> "Move":
        """The inverse move."""
        return Move(self.right, self.left, flip_axes(self.axes), self.sizes)


def plan(
    rules: Iterable[Rule], spellings: Mapping[str, Spelling], sizes: Mapping[str, int] | None = None
) -> tuple[Move, ...]:
    """Every move of a table, rule by rule.

    Raises:
        ValueError: the table names a tensor twice on one side, or a rule's axes don't fit its holes.
    """
    moves = tuple(move for rule in rules for move in _fill(rule, spellings, sizes or {}))
    for which, names in (("left", [m.left.names for m in moves]), ("right", [m.right.names for m in moves])):
        twice = [name for name, n in Counter(name for group in names for name in group).items() if n > 1]
        if twice:
            raise ValueError(f"the table names these twice on its {which} side: {', '.join(twice)}")
    return moves


def active(moves: Iterable[Move], hub: Collection[str]) -> tuple[Move, ...]:
    """The moves of a plan that make the given right names.

    Raises:
        CheckpointError: the table has no place for some of them, or has it only together with others.
    """
    chosen = tuple(move for move in moves if any(name in hub for name in move.right.names))
    made = {name for move in chosen for name in move.right.names}
    if made != set(hub):
        lost, extra = sorted(set(hub) - made), sorted(made - set(hub))
        raise CheckpointError(
            "the layout has no place for this model:"
            + (f"\n  nowhere to put: {some(lost, ', ')}" if lost else "")
            + (f"\n  exists only together with: {some(extra, ', ')}" if extra else "")
        )
    return chosen


def flip(moves: Iterable[Move]) -> tuple[Move, ...]:
    """The same plan in the other direction."""
    return tuple(move.flip() for move in moves)


def right_shapes(moves: Iterable[Move], left: Mapping[str, Shape]) -> dict[str, Shape]:
    """Names and shapes on the right, from those on the left. `flip` the moves for the other direction.

    Raises:
        ValueError: the shapes of the left side don't fit the rule's pattern.
    """
    shapes: dict[str, Shape] = {}
    for move in moves:
        shape = _through(move, _common([left[name] for name in move.left.names], move.left.names))
        depth = len(move.right.stack)
        if shape[:depth] != move.right.stack:
            raise ValueError(f"{move.left.names[0]}: leading axes {shape[:depth]}, expected {move.right.stack}")
        shapes |= dict.fromkeys(move.right.names, shape[depth:])
    return shapes


def right_dtypes(moves: Iterable[Move], left: Mapping[str, np.dtype]) -> dict[str, np.dtype]:
    """Name -> dtype on the right.

    Raises:
        CheckpointError: arrays that one array of the other side packs differ in dtype.
    """
    dtypes: dict[str, np.dtype] = {}
    mixed = [m.left.names for m in moves if len({left[name] for name in m.left.names}) > 1]
    if mixed:
        lines = [", ".join(f"{name} {left[name]}" for name in names) for names in mixed]
        raise CheckpointError("tensors that become one array must have one dtype, got\n  " + some(lines, "\n  "))
    for move in moves:
        dtypes |= dict.fromkeys(move.right.names, left[move.left.names[0]])
    return dtypes


def infer(
    rules: Iterable[Rule], spellings: Mapping[str, Spelling], left: Mapping[str, Shape]
) -> tuple[dict[str, Shape], tuple[str, ...]]:
    """The right names and shapes that a file's names and shapes imply, without a config, and the left names
    that fit no rule: {block}, unless `spellings` fills it, is 0, 1, 2, ... as long as such names are there."""
    rules, shapes, placed = tuple(rules), {}, set()
    if "block" not in spellings:
        spellings = {**spellings, "block": range(_count_blocks(rules, spellings, left))}
    for move in plan(rules, spellings):
        if all(name in left for name in move.left.names):
            try:
                shapes |= right_shapes([move], left)
            except ValueError:
                continue  # misshapen
            placed.update(move.left.names)
    return shapes, tuple(name for name in left if name not in placed)


def check(expected: Mapping[str, Shape | None], found: Mapping[str, Shape], what: str) -> None:
    """Names and shapes, strictly.

    Args:
        expected: None for a shape that nothing tells.
        what: the message's beginning: which tensors are not which.

    Raises:
        CheckpointError: one message that counts what is missing, unexpected and misshapen, and names the first of each.
    """
    missing = [name if shape is None else f"{name} {shape}" for name, shape in expected.items() if name not in found]
    unexpected = [f"{name} {shape}" for name, shape in found.items() if name not in expected]
    misshapen = [
        f"{name}: expected {shape}, got {found[name]}"
        for name, shape in expected.items()
        if name in found and shape is not None and tuple(found[name]) != tuple(shape)
    ]
    groups = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    if any(groups.values()):
        lists = [f"\n  {len(v)} {k}:\n    {some(v)}" for k, v in groups.items() if v]
        raise CheckpointError(what + "".join(lists))


def convert(
    moves: Iterable[Move], tensors: Iterable[tuple[str, np.ndarray]], shapes: Mapping[str, Shape]
) -> Iterator[tuple[str, np.ndarray]]:
    """Streams (left name, array) into (right name, array): arrays wait only until their move is complete.

    What comes out is C-contiguous and equal bit for bit; arrays that need no change are handed through.

    Args:
        shapes: every left name and its shape; what comes must be exactly that.

    Raises:
        CheckpointError: tensors missing, unexpected, misshapen or given twice.
    """
    move_of = {name: move for move in moves for name in move.left.names}
    seen: dict[str, Shape] = {}
    waiting: dict[str, np.ndarray] = {}
    sound = True
    for name, array in tensors:
        if name in seen:
            raise CheckpointError(f"{name} comes twice")
        seen[name] = array.shape
        # After the first offence nothing more is converted; the rest is only counted, to list it all.
        sound = sound and name in move_of and shapes[name] == array.shape
        if sound:
            waiting[name] = array
            move = move_of[name]
            if all(part in waiting for part in move.left.names):
                yield from _moved(move, [waiting.pop(part) for part in move.left.names])
    check(shapes, seen, "the tensors that came are not those that were to be converted")


def _moved(move: Move, arrays: list[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    if not move.right.stack:
        yield move.right.names[0], contiguous(_rearranged(move, move.axes, _stacked(arrays, move.left.stack)))
    elif (places := _places(move)) is not None:
        # One array after the other: all blocks of a large model together don't fit the memory of a few tensors.
        axes = _without(move.axes, move.axes.split("->")[1].split()[: len(places)])
        for name, index in zip(move.right.names, np.ndindex(*move.right.stack), strict=True):
            parts = [_at(array, places, index) for array in arrays]
            yield name, contiguous(_rearranged(move, axes, _stacked(parts, move.left.stack)))
    else:
        array = contiguous(_rearranged(move, move.axes, _stacked(arrays, move.left.stack)))
        yield from zip(move.right.names, array.reshape(-1, *array.shape[len(move.right.stack) :]), strict=True)


def _rearranged(move: Move, axes: str, array: np.ndarray) -> np.ndarray:
    return rearranged(array, axes, move.sizes) if axes else array


def _places(move: Move) -> list[int] | None:
    """Where the axes that the right side stacks lie in each array of the left, or None if they are merged there."""
    before, after = move.axes.split("->")
    names = before.split()[len(move.left.stack) :]
    stacked = after.split()[: len(move.right.stack)]
    whole = "(" not in before and all(name in names for name in stacked)
    return [names.index(name) for name in stacked] if whole else None


def _without(axes: str, names: list[str]) -> str:
    """The pattern without some of its axes."""
    return " -> ".join(" ".join(a for a in side.split() if a not in names) for side in axes.split("->"))


def _at(array: np.ndarray, places: Sequence[int], index: Sequence[int]) -> np.ndarray:
    """A view of the array at these indices of these axes."""
    at: list[int | slice] = [slice(None)] * array.ndim
    for place, i in zip(places, index, strict=True):
        at[place] = i
    return array[tuple(at)]


def _stacked(arrays: list[np.ndarray], stack: Shape) -> np.ndarray:
    if not stack:
        return arrays[0]
    if len({array.dtype for array in arrays}) > 1:
        raise CheckpointError(f"arrays of one tensor differ in dtype: {', '.join(str(a.dtype) for a in arrays)}")
    shape = (*stack, *arrays[0].shape)
    return np.stack([bits(array) for array in arrays]).view(arrays[0].dtype).reshape(shape)


def _fill(rule: Rule, spellings: Mapping[str, Spelling], sizes: Mapping[str, int]) -> Iterator[Move]:
    left, right = _holes(rule.left), _holes(rule.right)
    unknown = [hole for hole in dict.fromkeys(left + right) if hole not in spellings]
    if unknown:
        raise ValueError(f"{rule}: nothing fills the holes {unknown}")
    texts = {hole: text for hole, text in spellings.items() if isinstance(text, str)}
    both = [hole for hole in left if hole in right and hole not in texts]
    free = [[hole for hole in side if hole not in both and hole not in texts] for side in (left, right)]
    if any(not spellings[hole] for hole in left + right if hole not in texts):
        return
    _check_axes(rule, free)
    alone = [{hole: spellings[hole] for hole in holes} for holes in free]
    known = {**sizes, **{hole: len(spellings[hole]) for hole in free[0] + free[1]}}
    for picked in product(*(_pairs(spellings[hole]) for hole in both)):
        fixed = [{**texts, **{h: pair[which] for h, pair in zip(both, picked, strict=True)}} for which in (0, 1)]
        left_side, right_side = (_side(n, i, fixed[i], alone[i]) for i, n in enumerate((rule.left, rule.right)))
        yield Move(left_side, right_side, rule.axes, known)


def _side(name: str, which: int, fixed: Mapping[str, str | int], free: Mapping[str, Spelling]) -> Side:
    if not free:  # nearly always: a large model has thousands of names
        return Side((name.format(**fixed),))
    choices = [[pair[which] for pair in _pairs(spelling)] for spelling in free.values()]
    names = (name.format(**fixed, **dict(zip(free, chosen, strict=True))) for chosen in product(*choices))
    return Side(tuple(names), tuple(len(choice) for choice in choices))


def _check_axes(rule: Rule, free: list[list[str]]) -> None:
    sides = rule.axes.split("->") if rule.axes else ["", ""]
    for axes, holes in zip(sides, free, strict=True):
        if axes.split()[: len(holes)] != holes:
            raise ValueError(f"{rule}: the axes of its side must begin with its one-sided holes {holes}")


def _holes(name: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"{(\w+)}", name)))


def _pairs(spelling: Spelling) -> list[tuple[str | int, str | int]]:
    return [entry if isinstance(entry, tuple) else (entry, entry) for entry in spelling]


def _common(shapes: list[Shape], names: tuple[str, ...]) -> Shape:
    if len(set(shapes)) > 1:
        raise ValueError("; ".join(f"{name} {shape}" for name, shape in zip(names, shapes, strict=True)))
    return shapes[0]


def _through(move: Move, shape: Shape) -> Shape:
    """The shape of the right array, stacked axes first, from that of each left array."""
    stacked = (*move.left.stack, *shape)
    return shape_through(move.axes, stacked, move.sizes) if move.axes else stacked


def _count_blocks(rules: tuple[Rule, ...], spellings: Mapping[str, Spelling], names: Collection[str]) -> int:
    repeated, depth = [rule for rule in rules if "{block}" in rule.left], 0
    while _any_there(repeated, {**spellings, "block": [depth]}, names):
        depth += 1
    return depth


def _any_there(rules: Iterable[Rule], spellings: Mapping[str, Spelling], names: Collection[str]) -> bool:
    return any(name in names for rule in rules for move in _fill(rule, spellings, {}) for name in move.left.names)
