"""The data of a run: what it trains on, what it is judged on, and what the saved model has to know about its images."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np

from train.config import ConfigError, TrainConfig
from train.config.checks import Check, check_all
from train.input.batches import EvalBatch, HostBatch, ahead
from train.input.crop import crop_draws
from train.input.judged import eval_batches
from train.input.load import Load, cropped, evaluated, plain
from train.input.order import batch_indices
from train.input.reader import Reader, cpus
from train.input.sources import Source, open_source
from train.input.sources.folder import Folder
from vit_convert.preprocess import Preprocess

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RESIDENT_BYTES = 2**30
CHUNK = 1024  # images read at once for a whole split
LOOKED_AT = 64  # examples whose labels are checked before a run begins
COUNTED = 2**24  # pixels of a channel that are counted at once


class Split(NamedTuple):
    """images (N, H, W, C) uint8, their labels (N,) int32, and which of them count (N,) bool: the readable ones."""

    images: np.ndarray
    labels: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Data:
    """The two splits of a run, opened and checked; images are read when they are asked for."""

    config: TrainConfig
    train: Source
    test: Source
    given: Preprocess | None = None  # of the checkpoint that the run starts from

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the labels 0, 1, ... stand for."""
        return self.train.class_names

    @property
    def fingerprint(self) -> str:
        """What decides the batches of a run: it goes on with the same only."""
        c, d = self.config, self.config.data
        order = f"seed {c.seed}, batch {c.batch_size}, repeats {d.repeats}"
        pixels = f"{c.model.image_hw}, crop {d.crop} {d.min_area} {d.interpolation}"
        return f"{self.train.fingerprint}; {order}; {pixels}"

    @property
    def position(self) -> dict[str, Any]:
        """What a saved step keeps of where the run is in its data: the place at step N is a function of N and this."""
        p = self.preprocess
        kept = {"data": self.fingerprint, "num_examples": len(self.train), "mean": list(p.mean), "std": list(p.std)}
        return kept | {"held_out": self.test.fingerprint}  # the best weights so far are the best on these

    @cached_property
    def resident(self) -> bool:
        """Whether the whole set shall sit on the devices."""
        data, shape = self.config.data, self.train.shape
        if data.resident is not None:
            return data.resident
        if None in shape or shape[:2] != self.config.model.image_hw or data.crop != "none":
            return False
        return (len(self.train) + len(self.test)) * prod(n or 0 for n in shape) <= RESIDENT_BYTES

    @cached_property
    def preprocess(self) -> Preprocess:
        """How the images of the test split, and those that the saved model will see, become its input.

        Raises:
            ConfigError: mean and std are to be measured, and a channel is constant.
        """
        data, size = self.config.data, self.config.model.image_hw
        mean, std = self._mean_and_std()
        if data.crop == "none":
            return Preprocess(
                resize=size, crop=size, mode="squash", interpolation=data.interpolation, mean=mean, std=std
            )
        resize = round(size[0] / data.eval_crop), round(size[1] / data.eval_crop)
        return Preprocess(resize=resize, crop=size, interpolation=data.interpolation, mean=mean, std=std)

    def _mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        data, channels = self.config.data, self.config.model.in_channels
        if data.mean is not None and data.std is not None:
            return data.mean, data.std
        if self.given is not None and len(self.given.mean) == channels:
            return self.given.mean, self.given.std
        if self.resident:
            return mean_and_std(self.whole_train.images)
        return IMAGENET if channels == 3 else ((0.5,) * channels, (0.5,) * channels)

    @cached_property
    def whole_train(self) -> Split:
        """All training images at the model's size; the unreadable ones replaced, as in batches."""
        load = plain(self.config.model, self.config.data)
        parts = [self.train_reader.read(chunk, chunk, load) for chunk in _chunks(len(self.train))]
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Split(images, labels, np.ones(len(labels), bool))

    @cached_property
    def whole_test(self) -> Split:
        """All test images as they are evaluated; the unreadable ones don't count."""
        p = self.preprocess
        load, shape = evaluated(p), (*p.crop, len(p.mean))
        parts = [self.test_reader.read_whole(chunk, load, shape) for chunk in _chunks(len(self.test))]
        return Split(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def train_batches(self, start: int, stop: int, rows: slice) -> AbstractContextManager[Iterator[HostBatch]]:
        """These rows of the batches of steps start to stop - 1, made ahead."""
        c, reader = self.config, self.train_reader

        def make(step: int) -> HostBatch:
            chosen = batch_indices(c.seed, step, len(self.train), c.batch_size, c.data.repeats)[rows].tolist()
            load = self._train_load(step)
            return HostBatch(*reader.read(chosen, range(c.batch_size)[rows], load))

        return ahead(make, start, stop, c.data.prefetch)

    def _train_load(self, step: int) -> Load:
        c = self.config
        if c.data.crop == "none":
            return plain(c.model, c.data)
        return cropped(c.model, c.data, crop_draws(c.seed, step, c.batch_size))

    def test_batches(self, batch_size: int, rows: slice) -> AbstractContextManager[Iterator[EvalBatch]]:
        """These rows of all batches of the test split, in order, the last one filled up."""
        return eval_batches(self.test_reader, self.preprocess, batch_size, rows, self.config.data.prefetch)

    def unsaid(self) -> list[str]:
        """What was found in the images since the last call, to be said."""
        return [*self.train_reader.unsaid(), *self.test_reader.unsaid()]

    @cached_property
    def train_reader(self) -> Reader:
        return self._reader(self.train)

    @cached_property
    def test_reader(self) -> Reader:
        return self._reader(self.test)

    def _reader(self, source: Source) -> Reader:
        data = self.config.data
        threads = data.threads or cpus()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        return Reader(source, len(self.class_names), data.max_corrupt, pool, threads)


def mean_and_std(pixels: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of each channel of (N, H, W, C) uint8, in 0..1, to four digits. By counting levels: in the memory of a copy.

    Raises:
        ConfigError: a channel is constant: nothing can be divided by its standard deviation.
    """
    levels, count = np.arange(256) / 255, pixels[..., 0].size
    parts = np.array_split(pixels, -(-count // COUNTED))  # bincount makes eight bytes of each
    of_part = [[np.bincount(part[..., c].ravel(), minlength=256) for c in range(part.shape[-1])] for part in parts]
    shares = np.sum(of_part, axis=0) / count
    means = [float(share @ levels) for share in shares]
    stds = [float(share @ (levels - mean) ** 2) ** 0.5 for share, mean in zip(shares, means, strict=True)]
    mean, std = tuple(round(mean, 4) for mean in means), tuple(round(std, 4) for std in stds)
    if constant := [f"{c} ({255 * mean[c]:.0f})" for c in range(len(std)) if not std[c]]:
        raise ConfigError(
            f"channel {', '.join(constant)} of the training images is constant: give data.mean and data.std"
        )
    return mean, std


def _chunks(count: int) -> Iterator[range]:
    return (range(at, min(at + CHUNK, count)) for at in range(0, count, CHUNK))


def open_train(config: TrainConfig) -> Source:
    """What the config trains on.

    Raises:
        ConfigError: no such dataset or split, or a class's folder without an image.
    """
    source = open_source(config.data, config.data.train_split)
    if isinstance(source, Folder):
        source.check_classes()
    return source


def open_data(config: TrainConfig, given: Preprocess | None = None, train: Source | None = None) -> Data:
    """The config's dataset, checked against its model; no image is decoded, no device touched.

    Args:
        given: the preprocessing of the checkpoint that the run starts from: its mean and std are used.
        train: what open_train gave, where that was called already: opening walks a folder of a million images.

    Raises:
        ConfigError: no such dataset or split, or one that doesn't fit the model; all that doesn't is named. Or a label
            is none of the classes.
    """
    train = open_train(config) if train is None else train
    data = Data(config, train, open_source(config.data, config.data.test_split), given)
    check_all(_checks(data))
    for source, split in ((data.train, config.data.train_split), (data.test, config.data.test_split)):
        if not isinstance(source, Folder):  # whose labels are the folders' numbers
            check_labels(source, f"{config.data.name}, split {split!r}")
    return data


def check_labels(source: Source, name: str) -> None:
    """Looks at some examples from the first to the last: a split without labels, whose number TFDS makes -1, and labels
    that count from 1, are found before a run begins. All labels of a set of records are seen only by reading them all.

    Raises:
        ConfigError: one is none of the classes, or a file of the dataset can't be read.
    """
    places = np.unique(np.linspace(0, len(source) - 1, LOOKED_AT).round().astype(int)).tolist()
    try:
        examples = source.examples(places)
    except OSError as error:
        raise ConfigError(f"{name}: {error}") from error
    for place, example in zip(places, examples, strict=True):
        if not 0 <= example.label < len(source.class_names):
            raise ConfigError(
                f"{name}: example {place} of {len(source):,} has the label {example.label}; expected one of 0 to "
                f"{len(source.class_names) - 1}: give another split, or a dataset whose labels are its classes"
            )


def _checks(data: Data) -> Iterator[Check]:
    config, name, count = data.config, data.config.data.name, len(data.class_names)
    yield (
        data.test.class_names == data.class_names,
        f"the classes of {name} differ between its splits: {_difference(data.class_names, data.test.class_names)}",
    )
    yield (
        config.model.num_classes == count,
        f"model.num_classes is {config.model.num_classes}, but the labels of {name} go from 0 to {count - 1}: "
        f"use --model.num-classes {count}",
    )
    channels = data.train.shape[2]
    fits = channels is None or config.model.in_channels == channels or (config.model.in_channels, channels) == (3, 1)
    yield fits, f"model.in_channels is {config.model.in_channels}, but the images of {name} have {channels}"
    many = config.model.in_channels in (1, 3, 4)
    yield many, f"model.in_channels is {config.model.in_channels}; images are grey (1), RGB (3) or RGBA (4)"
    a = config.augment
    coloured = bool(a.rand_augment_layers or a.three_augment or a.color_jitter)
    fits = not coloured or config.model.in_channels in (1, 3)
    yield fits, f"RandAugment, 3-Augment and colour jitter are for 1 or 3 channels, got {config.model.in_channels}"
    yield from config.data.channel_checks(config.model.in_channels)
    whole = not config.data.resident or config.data.crop == "none"
    yield whole, f"data.resident needs data.crop none, got {config.data.crop}: crops are made on the host"
    enough = len(data.train) >= config.batch_size
    yield enough, f"batch_size {config.batch_size} is more than the {len(data.train)} training images"
    yield len(data.test) > 0, f"the split {config.data.test_split} of {name} is empty"


def _difference(train: tuple[str, ...], test: tuple[str, ...]) -> str:
    """Which are in one of them alone; letters that look alike may be other ones (é, and e with an accent)."""
    parts = []
    for alone, where in ((set(train) - set(test), "training"), (set(test) - set(train), "held-out")):
        names = ", ".join(map(ascii, sorted(alone)[:10])) + (f" and {len(alone) - 10} more" if len(alone) > 10 else "")
        parts += [f"{names} only in the {where} images"] * bool(alone)
    return "; ".join(parts) or "their order"
