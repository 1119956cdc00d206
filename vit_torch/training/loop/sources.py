"""Where the loop's images come from: digits, folder:PATH, arrays:FILE.npz, each a Source; of TFDS: tfds.py."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from vit_convert.image_file import UNREADABLE, to_8_bits, why_unreadable, without_waiting
from vit_convert.image_folder import SUFFIXES, classes_in, images_in
from vit_convert.streams import one_line
from vit_torch.training.loop.errors import Refused

KEYS = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}  # of an npz, as Keras' datasets have them
LABELS = [labels for _, labels in KEYS.values()]


@dataclass(frozen=True)
class Source:
    """One split of a dataset."""

    images: Callable[[], Iterator[Image.Image]]  # in the order of the labels
    labels: Callable[[], Sequence[int]]
    class_names: tuple[str, ...]
    shape: tuple[int, int, int] | None  # (H, W, C) of all images, where it is known before they are read


def digits(split: str) -> Source:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 grey, a stratified fifth held out: vit-train's own split."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError:
        raise Refused("data.name digits needs scikit-learn: pip install scikit-learn") from None
    if split not in KEYS:
        raise Refused(f"digits has the splits train and test, and none that is called {split!r}")
    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)  # 17 greys, from 0 to 16
    halves = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
    images, labels = (np.asarray(half) for half in halves[split == "test" :: 2])
    return _of_arrays(images, labels, tuple(map(str, range(10))))


def folder(root: Path, split: str) -> Source:
    """ROOT/SPLIT/CLASS/*.jpg: its classes are the folders in it, by name; its examples their images, by name."""
    place = root / split
    if not place.is_dir():
        raise Refused(f"data.name folder:{root}: there is no folder {place}; name splits with --data.train-split")
    try:
        classes = classes_in(place)
        of_classes = [sorted(map(Path, images_in(place / name))) for name in classes]
    except OSError as error:
        raise Refused(
            f"data.name folder:{root}: {error.filename} can't be listed: {error.strerror or error}"
        ) from error
    files = [(path, label) for label, paths in enumerate(of_classes) for path in paths]
    if not files:
        raise Refused(f"data.name folder:{root}: no image ({', '.join(SUFFIXES)}) is in {place}/*/")
    labels = [label for _, label in files]
    return Source(lambda: (opened(path, str(path)) for path, _ in files), lambda: labels, classes, None)


def opened(file: Path | io.BytesIO, name: str) -> Image.Image:
    """A picture of the file, decoded, of 8 bits a channel.

    Raises:
        Refused: it can't be read; `name` says which it is.
    """
    try:
        with _bytes_of(file) as raw, Image.open(raw) as image:
            image.load()
            return to_8_bits(image, image.format)
    except UNREADABLE as error:
        raise Refused(f"{one_line(name)} can't be read as an image: {why_unreadable(error)}") from error


def _bytes_of(file: Path | io.BytesIO) -> IO[bytes]:
    return file if isinstance(file, io.BytesIO) else open(file, "rb", opener=without_waiting)


def arrays(file: Path, split: str) -> Source:
    """An npz with x_train, y_train, x_test, y_test: images (N, H, W) or (N, H, W, C) uint8, labels (N,) from 0 on."""
    if split not in KEYS:
        raise Refused(f"arrays:{file} has the splits train and test, and none that is called {split!r}")
    found = _read_npz(file, {*KEYS[split], *LABELS})
    images, labels = (found[name] for name in KEYS[split])
    labels = labels[:, 0] if labels.shape[1:] == (1,) else labels  # as CIFAR's
    fits = images.dtype == np.uint8 and images.ndim in (3, 4) and images.size and labels.shape == images.shape[:1]
    if not fits or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise Refused(
            f"{file}, {split}: expected images (N, H, W) or (N, H, W, C) uint8 and labels (N,) from 0 on, "
            f"got {images.shape} {images.dtype} and {labels.shape} {labels.dtype}"
        )
    classes = 1 + max(int(found[name].max(initial=0)) for name in LABELS if found[name].dtype.kind in "iu")
    return _of_arrays(images, labels, tuple(map(str, range(classes))))


def _read_npz(file: Path, wanted: Iterable[str]) -> dict[str, np.ndarray]:
    """
    Raises:
        Refused: it can't be read, or hasn't all arrays of KEYS.
    """
    names = [name for pair in KEYS.values() for name in pair]
    try:
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as found:  # of a path it leaves damage open
            if missing := [name for name in names if name not in found]:
                raise Refused(f"{file} has no {', '.join(missing)}; it needs {', '.join(names)}")
            return {name: np.asarray(found[name]) for name in wanted}
    except Refused:
        raise
    except Exception as error:  # zlib, the zip and NumPy, which parses Python's literals, each raise what they meet
        raise Refused(f"{file} can't be read as an npz of arrays: {error!r}") from error


def _of_arrays(images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> Source:
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    shape = (*images.shape[1:3], images.shape[3] if images.ndim == 4 else 1)
    return Source(lambda: map(Image.fromarray, images), labels.tolist, class_names, shape)
