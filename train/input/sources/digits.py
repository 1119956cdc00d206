"""scikit-learn's 1,797 handwritten digits, 8 x 8 grey (Alpaydin & Kaynak 1998), a stratified fifth held out."""

import numpy as np

from train.config import ConfigError
from train.input.sources.arrays import Arrays

NAMES = tuple(str(digit) for digit in range(10))


def digits(split: str) -> Arrays:
    """The split "train" (1,437 digits) or "test" (360).

    Raises:
        ConfigError: another split.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if split not in ("train", "test"):
        raise ConfigError(f"digits has the splits train and test, and none that is called {split!r}")
    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)  # 17 greys, from 0 to 16
    halves = train_test_split(images, labels.astype(np.int32), test_size=0.2, stratify=labels, random_state=0)
    train_images, test_images, train_labels, test_labels = (np.ascontiguousarray(part) for part in halves)
    images, labels = (train_images, train_labels) if split == "train" else (test_images, test_labels)
    return Arrays(images, labels, NAMES, f"digits {split} {len(labels)}")
