"""A checkpoint of any layout judged by a split of any dataset, on all devices of all hosts."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from train.augment import normalise
from train.config import ConfigError, DataConfig
from train.devices.placement import Placement, whole_placement
from train.evaluation.classes import Classes, check_head, match_classes
from train.evaluation.counts import Evaluated
from train.evaluation.split import Evaluate, batch_size, judge, streamed
from train.input.batches import EvalBatch
from train.input.judged import eval_batches
from train.input.reader import Reader, cpus
from train.input.sources import Source, open_source
from train.step import Params, split_model
from train.workdir import checkpoint_of
from vit_convert.checkpoint import Checkpoint, open_checkpoint
from vit_convert.errors import CheckpointError
from vit_convert.preprocess import Preprocess, check_fits
from vit_flax import ViT

Shown = Callable[[Iterable[EvalBatch], int], Iterable[EvalBatch]]  # batches, and how many there will be


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which checkpoint is to be judged, and by what."""

    checkpoint: str  # a file, a directory, hf-hub:owner/name, or the folder of a run
    data: DataConfig  # its test_split
    batch_size: int = 256
    dtype: str = "float32"  # of computation
    preset: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)  # ViTConfig fields
    weights: str | None = None


@dataclass(frozen=True)
class Opened:
    """A checkpoint and a dataset that fit together; nothing has been read of either."""

    path: str
    checkpoint: Checkpoint
    preprocess: Preprocess
    source: Source
    classes: Classes
    asked: Asked

    @property
    def said(self) -> tuple[str, ...]:
        return (*self.checkpoint.said, *self.classes.said)


@dataclass(frozen=True)
class Judged:
    """What the split came to, in seconds with compiling."""

    evaluated: Evaluated
    seconds: float
    left_out: list[str]  # images that can't be decoded, and why


def open_both(asked: Asked) -> Opened:
    """
    Raises:
        ConfigError: no such checkpoint or dataset, or they don't fit.
    """
    path = checkpoint_of(asked.checkpoint)
    questions: Any = dict(preset=asked.preset, overrides=asked.overrides, weights=asked.weights)
    try:
        found = open_checkpoint(path, **questions)
        found.check_floating()
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
    source, name = open_source(asked.data, asked.data.test_split), asked.data.name
    if not len(source):
        raise ConfigError(f"the split {asked.data.test_split} of {name} is empty: there is nothing to judge")
    check_head(path, found.config.num_classes, name, source.class_names)
    preprocess = _preprocess(path, found, name, source)
    return Opened(path, found, preprocess, source, match_classes(path, found.labels, name, source.class_names), asked)


def _preprocess(path: str, found: Checkpoint, name: str, source: Source) -> Preprocess:
    channels, there = found.config.in_channels, source.shape[2]
    if there is not None and channels != there and (channels, there) != (3, 1):
        raise ConfigError(f"{path} takes images of {channels} channels, but those of {name} have {there}")
    if found.preprocess is not None:
        try:
            check_fits(path, found.preprocess, found.config)
        except CheckpointError as error:
            raise ConfigError(str(error)) from error
        return found.preprocess
    why = "; ".join(found.said)
    raise ConfigError(
        f"nothing tells how images become the input of {path}{f' ({why})' if why else ''}: say which model it is with "
        "--preset NAME (dino_vits16, mae_vit_base_patch16, ...), or put a preprocessor_config.json beside it"
    )


def judge_checkpoint(opened: Opened, shown: Shown = lambda batches, count: batches) -> Judged:
    """Every example of the split counted once.

    Raises:
        ConfigError: the checkpoint can't be read to its end.
        DataError: too many images can't be decoded.
    """
    begun, placement = time.perf_counter(), whole_placement()
    model = load(opened)
    merge, params = split_model(model)
    params = {name: placement.put(name, x) for name, x in params.items()}
    threads = opened.asked.data.threads or cpus()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        of, limit = opened.source, opened.asked.data.max_corrupt
        reader = Reader(of, len(of.class_names), limit, pool, threads)
        evaluated = make(opened, merge, reader, placement, shown)(params)
    return Judged(evaluated, time.perf_counter() - begun, list(reader.corrupt.values()))


def load(opened: Opened) -> ViT:
    """The model, its parameters in float32; in float64 where JAX has it and the checkpoint too."""
    asked, found = opened.asked, opened.checkpoint
    wide = any(dtype.name == "float64" for dtype in found.dtypes.values())
    param_dtype = jnp.result_type(jnp.float64 if wide else jnp.float32)
    questions: Any = dict(preset=asked.preset, overrides=asked.overrides, weights=asked.weights)
    dtype = param_dtype if asked.dtype == "float32" else jnp.dtype(asked.dtype)
    run: dict[str, Any] = dict(
        dtype=dtype, param_dtype=param_dtype, dynamic_size=opened.preprocess.crop != found.config.image_hw
    )
    try:
        return ViT.from_pretrained(opened.path, **questions, **run)
    except CheckpointError as error:
        raise ConfigError(str(error)) from error


def make(
    opened: Opened, merge: Callable[[Params], Any], reader: Reader, placement: Placement, shown: Shown
) -> Evaluate:
    """The evaluation of an opened checkpoint."""
    p, order, count = opened.preprocess, opened.classes.order, len(opened.source)
    size = batch_size(count, opened.asked.batch_size, placement)
    dtype = jnp.result_type(float)

    def logits(params: Params, images: Array) -> Array:
        wide = jax.tree.leaves(params)[0].dtype
        return merge(params)(normalise(images, p.mean, p.std, wide))

    @contextmanager
    def read(size: int, rows: slice) -> Iterator[Iterable[EvalBatch]]:
        batches: AbstractContextManager = eval_batches(reader, p, size, rows, opened.asked.data.prefetch)
        with batches as found:
            matched = (batch._replace(labels=order[batch.labels]) for batch in found)
            yield shown(matched, -(-count // size))

    return judge(logits, opened.checkpoint.config.num_classes, dtype, streamed(read, size, placement), placement)
