"""The one-way changes: named steps that say what they did. A rule never loses anything; these may.

Each function plans a step for a model of a config; the step knows the config after it, says in words what it
does, and applies to a stream of (hub name, array).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.hub import hub_shapes
from vit_convert.positions import resize_table

Stream = Iterable[tuple[str, np.ndarray]]
Dtypes = Mapping[str, np.dtype]


def _same(dtypes: Dtypes) -> dict[str, np.dtype]:
    return dict(dtypes)


@dataclass(frozen=True)
class Step:
    """One change of a model's tensors."""

    config: ViTConfig  # after it
    said: str  # what it does, in words; empty if it changes nothing
    apply: Callable[[Stream], Iterator[tuple[str, np.ndarray]]]
    dtypes: Callable[[Dtypes], dict[str, np.dtype]] = _same  # hub name -> dtype, before it -> after it


def resize_positions(config: ViTConfig, image_size: int | tuple[int, int]) -> Step:
    """Resizes a learned position table for another image size, by the config's own rule (`pos_resize`).

    Rows of prefix tokens stay as they are. The resize is computed in float64 and rounded to the table's dtype.

    Raises:
        ValueError: the patches don't divide the image size.
    """
    resized = config.replace(image_size=image_size)
    if resized.grid == config.grid or config.pos_embed != "learned":
        said = "" if resized == config else f"image size {resized.image_hw}: no position table changes"
        return Step(resized, said, iter)

    def resize(name: str, array: np.ndarray) -> np.ndarray:
        prefix, table = array[:, : config.num_pos_prefix], array[0, config.num_pos_prefix :]
        table = resize_table(table.reshape(*config.grid, config.dim), resized.grid, config.pos_resize)
        return np.concatenate([prefix, table.reshape(1, -1, config.dim)], axis=1)

    said = f"positions resized from {config.grid} to {resized.grid} by {config.pos_resize}"
    return Step(resized, said, _each(resize, only="pos_embed"))


def replace_head(config: ViTConfig, num_classes: int) -> Step:
    """Drops the head, with its pre_logits layer; or puts one of zeros there, for as many classes, to be trained: two
    where the model has two (class_dist)."""
    if num_classes == config.num_classes:
        return Step(config, "", iter)
    changed = config.replace(num_classes=num_classes, pre_logits=0, head_bias=True)
    gone = [name for name in hub_shapes(config) if name not in hub_shapes(config.replace(num_classes=0, pre_logits=0))]
    new = {name: shape for name, shape in hub_shapes(changed).items() if name.startswith(("head.", "head_dist."))}
    heads = "a new head of {}: it has" if config.pool != "class_dist" else "two new heads of {}: they have"
    parts = [f"left out {', '.join(gone)}"] * bool(gone)
    parts += [f"{heads.format(f'{num_classes} classes, of zeros')} to be trained"] * bool(new)

    def dtypes(before: Dtypes) -> dict[str, np.dtype]:
        kept = {name: dtype for name, dtype in before.items() if name not in gone}
        return kept | dict.fromkeys(new, before["patch_embed.proj.weight"])

    return Step(changed, "; ".join(parts), _exchange(gone, new), dtypes)


def fold_prefix_positions(config: ViTConfig) -> Step | None:
    """Adds the position rows of class, distillation and register tokens to the tokens themselves: the same function.

    As timm does for DINOv2 with registers (timm/models/vision_transformer.py, checkpoint_filter_fn). Sums are
    rounded to the tokens' dtype, as they are in the model.
    """
    if not config.num_pos_prefix:
        return None
    tokens = {"cls_token": 1, "dist_token": 1, "reg_token": config.num_registers}
    named = [name for name in tokens if name in hub_shapes(config)]
    if config.pos_prefix == "class":
        named = [name for name in named if name != "reg_token"]

    def apply(stream: Stream) -> Iterator[tuple[str, np.ndarray]]:
        held: dict[str, np.ndarray] = {}
        for name, array in stream:
            if name in (*named, "pos_embed"):
                held[name] = array
            else:
                yield name, array
        begin = 0
        for name in named:
            rows = held["pos_embed"][:, begin : begin + tokens[name]]
            yield name, (held[name].astype(np.float64) + rows).astype(held[name].dtype)
            begin += tokens[name]
        yield "pos_embed", np.ascontiguousarray(held["pos_embed"][:, begin:])

    said = f"position rows of {', '.join(named)} are added to these tokens: the same function"
    return Step(config.replace(pos_prefix="none"), said, apply)


def zero_prefix_positions(config: ViTConfig) -> Step | None:
    """Gives class and distillation tokens position rows of zeros: the same function."""
    rows = config.class_token + config.dist_token
    if config.pos_embed != "learned" or config.pos_prefix != "none" or not rows:
        return None

    def pad(name: str, array: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros((1, rows, config.dim), array.dtype), array], axis=1)

    said = "position rows of zeros for the class token" + " and the distillation token" * config.dist_token
    return Step(config.replace(pos_prefix="class"), f"{said}: the same function", _each(pad, only="pos_embed"))


def zero_key_bias(config: ViTConfig) -> Step | None:
    """Packs q and v biases into one qkv bias, with zeros for k: the same function."""
    if config.qkv_bias != "qv":
        return None
    return _zero_biases(config, config.replace(qkv_bias="all"), "k biases of zeros beside those of q and v")


def zero_qkv_bias(config: ViTConfig) -> Step | None:
    """Gives q, k and v biases of zeros: the same function."""
    if config.qkv_bias != "none":
        return None
    return _zero_biases(config, config.replace(qkv_bias="all"), "qkv biases of zeros")


def zero_head_bias(config: ViTConfig) -> Step | None:
    """Gives the head a bias of zeros: the same function."""
    if config.head_bias or not config.num_classes:
        return None
    return _zero_biases(config, config.replace(head_bias=True), "a head bias of zeros")


def zero_patch_bias(config: ViTConfig) -> Step | None:
    """Gives the patch embedding a bias of zeros: the same function."""
    if config.patch_bias:
        return None
    return _zero_biases(config, config.replace(patch_bias=True), "a patch embedding bias of zeros")


def zero_mean_head(config: ViTConfig) -> Step | None:
    """Widens a head on the class token to one on class token and mean of the patches, whose part is zeros.

    The same function: DINOv2's classifiers have this form.
    """
    if config.pool != "class" or not config.num_classes or config.pre_logits:
        return None

    def widen(name: str, array: np.ndarray) -> np.ndarray:
        return np.concatenate([array, np.zeros_like(array)], axis=1)

    said = "head weights of zeros for the mean of the patches: the same function"
    return Step(config.replace(pool="class_mean"), said, _each(widen, only="head.weight"))


def through(steps: Iterable[Step], tensors: Stream) -> Stream:
    """The stream after all steps."""
    for step in steps:
        tensors = step.apply(tensors)
    return tensors


def dtypes_after(steps: Iterable[Step], dtypes: Dtypes) -> Dtypes:
    """Hub name -> dtype after all steps."""
    for step in steps:
        dtypes = step.dtypes(dtypes)
    return dtypes


def cast(config: ViTConfig, dtype: np.dtype) -> Step:
    """Rounds every floating tensor to `dtype`, to nearest even.

    Applied, it raises CheckpointError for a finite value that the dtype would make infinite.
    """

    def rounded(name: str, array: np.ndarray) -> np.ndarray:
        if not is_floating(array.dtype) or array.dtype == dtype:
            return array
        with np.errstate(over="ignore"):  # ml_dtypes overflow in silence, so that what came of it is looked at
            narrow = array.astype(dtype)
        infinite = np.isinf(narrow)
        if infinite.any() and np.isfinite(array[infinite]).any():
            raise CheckpointError(_too_large(name, dtype))
        return narrow

    def dtypes(before: Dtypes) -> dict[str, np.dtype]:
        return {name: dtype if is_floating(old) else old for name, old in before.items()}

    return Step(config, f"floating tensors cast to {dtype}", _each(rounded), dtypes)


def _too_large(name: str, dtype: np.dtype) -> str:
    instead = "bfloat16 has the range of float32" if dtype.name == "float16" else "leave the dtype as it is"
    return f"{name}: {dtype} holds values up to {ml_dtypes.finfo(dtype).max:.4g}, it has larger ones; {instead}"


def is_floating(dtype: np.dtype) -> bool:
    """Whether a dtype holds fractions; NumPy counts those of ml_dtypes, such as bfloat16, as void."""
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))


def _each(change: Callable[[str, np.ndarray], np.ndarray], only: str | None = None) -> Callable:
    """Changes each array by itself, or the one of that name alone."""

    def apply(stream: Stream) -> Iterator[tuple[str, np.ndarray]]:
        return ((name, change(name, array) if only in (None, name) else array) for name, array in stream)

    return apply


def _exchange(gone: Iterable[str], new: Mapping[str, tuple[int, ...]]) -> Callable:
    """Leaves some tensors out and puts zeros at the end, in the patch embedding's dtype."""

    def apply(stream: Stream) -> Iterator[tuple[str, np.ndarray]]:
        dtype = np.dtype(np.float32)
        for name, array in stream:
            dtype = array.dtype if name == "patch_embed.proj.weight" else dtype
            if name not in gone:
                yield name, array
        yield from ((name, np.zeros(shape, dtype)) for name, shape in new.items())

    return apply


def _zero_biases(config: ViTConfig, changed: ViTConfig, what: str) -> Step:
    """Adds the biases that `changed` has beside those of `config`: zeros, with q and v biases at their places."""
    gone = {name for name in hub_shapes(config) if name not in hub_shapes(changed)}
    new = {name: shape for name, shape in hub_shapes(changed).items() if name not in hub_shapes(config)}
    # Where a new bias gets its dtype from: the q bias that it takes in, or the weight beside it.
    like = {name: name.replace(".qkv.bias", ".q_bias") for name in new}
    like = {name: q_bias if q_bias in gone else name.replace(".bias", ".weight") for name, q_bias in like.items()}

    def apply(stream: Stream) -> Iterator[tuple[str, np.ndarray]]:
        held: dict[str, np.ndarray] = {}
        kinds: dict[str, np.dtype] = {}
        for name, array in stream:
            kinds[name] = array.dtype
            if name in gone:
                held[name] = array
            else:
                yield name, array
        for name, shape in new.items():
            bias = np.zeros(shape, kinds[like[name]])
            if like[name] in gone:
                bias[: config.dim] = held[like[name]]
                bias[2 * config.dim :] = held[like[name].replace(".q_bias", ".v_bias")]
            yield name, bias

    def dtypes(before: Dtypes) -> dict[str, np.dtype]:
        kept = {name: dtype for name, dtype in before.items() if name not in gone}
        return kept | {name: before[like[name]] for name in new}

    return Step(changed, f"{what}: the same function", apply, dtypes)
