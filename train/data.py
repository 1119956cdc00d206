"""Datasets that fit on the device whole."""

from dataclasses import dataclass

import numpy as np

from train.config import ConfigError, TrainConfig
from vit_convert.preprocess import Preprocess


@dataclass(frozen=True)
class Split:
    """images (N, H, W, C) uint8 and their labels (N,) int32."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """What a run trains on, what it is judged on, and what the saved model has to know about its images."""

    train: Split
    test: Split
    preprocess: Preprocess
    class_names: tuple[str, ...]


def load(config: TrainConfig) -> Dataset:
    """The config's dataset, checked against its model.

    Raises:
        ConfigError: labels, channels or image size don't fit the model; all that don't are named.
    """
    dataset = {"digits": load_digits}[config.data.name]()
    _check(config, dataset)
    return dataset


def class_names(config: TrainConfig) -> tuple[str, ...]:
    """What the labels 0, 1, ... of the config's dataset stand for."""
    return {"digits": load_digits}[config.data.name]().class_names


def load_digits() -> Dataset:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 grey (Alpaydin & Kaynak 1998), a stratified fifth held out."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)  # 17 greys, from 0 to 16
    halves = train_test_split(images, labels.astype(np.int32), test_size=0.2, stratify=labels, random_state=0)
    train_images, test_images, train_labels, test_labels = (np.ascontiguousarray(part) for part in halves)
    preprocess = Preprocess(
        resize=(8, 8),
        crop=(8, 8),
        mode="squash",
        interpolation="bilinear",
        antialias=True,
        mean=(0.3053,),  # of the training pixels
        std=(0.3761,),
    )
    names = tuple(str(digit) for digit in range(10))
    return Dataset(Split(train_images, train_labels), Split(test_images, test_labels), preprocess, names)


def _check(config: TrainConfig, dataset: Dataset) -> None:
    model, wrong = config.model, []
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    if labels.min() < 0 or labels.max() >= model.num_classes or len(dataset.class_names) != model.num_classes:
        wrong.append(
            f"model.num_classes is {model.num_classes}, but the labels of {config.data.name} go from {labels.min()} "
            f"to {labels.max()}: use --model.num-classes {len(dataset.class_names)}"
        )
    *size, channels = dataset.train.images.shape[1:]
    if tuple(size) != model.image_hw:
        wrong.append(f"model.image_size is {model.image_hw}, but the images of {config.data.name} are {tuple(size)}")
    if channels != model.in_channels:
        wrong.append(f"model.in_channels is {model.in_channels}, but the images of {config.data.name} have {channels}")
    if wrong:
        raise ConfigError("; ".join(wrong))
