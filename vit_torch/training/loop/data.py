"""A run's images, all in memory: scikit-learn's digits, a TFDS dataset, an image folder, arrays of an npz file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vit_convert.config import ViTConfig
from vit_convert.image_folder import none_in
from vit_convert.preprocess import Preprocess
from vit_torch.training.loop.errors import Refused
from vit_torch.training.loop.settings import Settings
from vit_torch.training.loop.sources import Source, arrays, digits, folder
from vit_torch.training.loop.tfds import tfds

FOLDER, ARRAYS = "folder:", "arrays:"
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Split:
    """Images and labels of one part of a dataset."""

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64


@dataclass(frozen=True)
class Data:
    """Both parts of a run's dataset, and what a model has to know about its images."""

    train: Split
    test: Split
    class_names: tuple[str, ...]
    preprocess: Preprocess


def open_sources(settings: Settings) -> tuple[Source, Source]:
    """The training and the test split, no image of which is read yet.

    Raises:
        Refused: no such data, splits with other classes, or a class's folder without an image to train on.
    """
    name, place = settings["data.name"], settings["data.dir"]
    train, test = (open_source(name, settings[f"data.{part}_split"], place) for part in ("train", "test"))
    if train.class_names != test.class_names:
        one, other = set(train.class_names), set(test.class_names)
        raise Refused(
            f"the classes of {name} differ between its splits: only in the training images "
            f"{sorted(one - other)[:10]}, only in the held-out ones {sorted(other - one)[:10]}"
        )
    root = Path(name.removeprefix(FOLDER), settings["data.train_split"])
    if name.startswith(FOLDER) and (said := none_in(root, train.class_names, train.labels())):
        raise Refused(f"data.name {name}: {said}")
    return train, test


def open_source(name: str, split: str, data_dir: str | None = None) -> Source:
    """The split of the dataset that vit-train's data.name means, or of an npz file.

    Args:
        data_dir: where TFDS has prepared its datasets; None: where it does by itself.

    Raises:
        Refused: no such dataset or split.
    """
    if name == "digits":
        return digits(split)
    if name.startswith(FOLDER):
        return folder(Path(name.removeprefix(FOLDER)), split)
    if name.startswith(ARRAYS):
        return arrays(Path(name.removeprefix(ARRAYS)), split)
    return tfds(name, split, data_dir)


def read_data(
    settings: Settings, sources: tuple[Source, Source], config: ViTConfig, given: Preprocess | None = None
) -> Data:
    """Both splits at the model's size, images squashed as by vit-train's `data.crop none`.

    Args:
        given: the preprocessing of the checkpoint that the run starts from: its mean and std are used.

    Raises:
        Refused: classes or channels that the model hasn't, or an image that can't be read.
    """
    train = sources[0]
    _check(settings["data.name"], train, config)
    size, half = config.image_hw, (0.5,) * config.in_channels
    preprocess = Preprocess(
        resize=size, crop=size, mode="squash", interpolation=settings["data.interpolation"], mean=half, std=half
    )
    splits = [_read(source, preprocess) for source in sources]
    resident = train.shape is not None and train.shape[:2] == size
    if settings["data.resident"] is not None:
        resident = settings["data.resident"]
    mean, std = _mean_and_std(settings, config.in_channels, given, splits[0].images if resident else None)
    return Data(splits[0], splits[1], train.class_names, replace(preprocess, mean=mean, std=std))


def _check(name: str, source: Source, config: ViTConfig) -> None:
    count = len(source.class_names)
    if config.num_classes != count:
        raise Refused(
            f"model.num_classes is {config.num_classes}, but {name} has {count} classes: "
            f"use --model.num-classes {count}"
        )
    if config.in_channels not in (1, 3, 4):
        raise Refused(f"model.in_channels is {config.in_channels}; images are grey (1), RGB (3) or RGBA (4)")
    channels = None if source.shape is None else source.shape[2]
    if channels not in (None, config.in_channels) and (channels, config.in_channels) != (1, 3):
        raise Refused(f"model.in_channels is {config.in_channels}, but the images of {name} have {channels}")


def _read(source: Source, preprocess: Preprocess) -> Split:
    pixels = np.stack(list(_sized(source.images(), preprocess)))
    labels = torch.tensor(source.labels(), dtype=torch.int64)
    return Split(torch.tensor(pixels).permute(0, 3, 1, 2).contiguous(), labels)


def _sized(images: Iterable[Image.Image], preprocess: Preprocess) -> Iterator[np.ndarray]:
    """(H, W, C) uint8, of the model's size and channels."""
    for image in images:
        yield preprocess.pixels(image)


def _mean_and_std(
    settings: Settings, channels: int, given: Preprocess | None, pixels: Tensor | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """As the settings say; else the checkpoint's; else of the training pixels (N, C, H, W), where these are given; else
    ImageNet's.

    Raises:
        Refused: as many numbers as channels aren't given, or a channel to be measured is constant.
    """
    if settings["data.mean"] is not None:
        mean, std = tuple(settings["data.mean"]), tuple(settings["data.std"])
        if len(mean) != channels:
            raise Refused(f"data.mean has {len(mean)} numbers, and model.in_channels is {channels}")
        return mean, std
    if given is not None and len(given.mean) == channels:
        return given.mean, given.std
    if pixels is not None:
        levels = pixels.double().div(255).transpose(0, 1).flatten(1)
        mean, std = (tuple(round(x, 4) for x in of.tolist()) for of in (levels.mean(1), levels.std(1, correction=0)))
        if constant := [f"{c} ({255 * mean[c]:.0f})" for c in range(channels) if not std[c]]:
            raise Refused(
                f"channel {', '.join(constant)} of the training images is constant: give data.mean and data.std"
            )
        return mean, std
    return IMAGENET if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
