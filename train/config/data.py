"""DataConfig: where images come from, and what is done with them before they reach the device."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from train.config.checks import Check, at_least, below, finite, positive, share


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The dataset, and how its images become arrays of the model's size."""

    # digits; a prepared TFDS dataset (fashion_mnist, cifar10:3.0.2); or folder:PATH, with PATH/SPLIT/CLASS/*.jpg
    name: str
    dir: Path | None = None  # where TFDS has its datasets; None: where TFDS itself looks
    train_split: str = "train"  # trained on
    test_split: str = "test"  # evaluated on
    # of training images: none (squashed to the model's size), random_resized (Inception's), simple (DeiT III's)
    crop: Literal["none", "random_resized", "simple"] = "none"
    min_area: float = 0.08  # of the image that random_resized keeps at least
    repeats: int = 1  # times that an image is in the batch, augmented anew (Hoffer et al. 2020); epochs count them all
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"  # where images are resized
    eval_crop: float = 0.875  # of the resized shortest side: what the evaluation's centre crop keeps
    # of pixels in 0..1, a channel each; None: of the training pixels where the set is resident, else ImageNet's
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None  # likewise
    max_corrupt: float = 0.01  # of a split: unreadable images are said and replaced by the next; more are an error
    resident: bool | None = None  # the whole set on the device; None: if it has the model's size and at most 1 GB
    threads: int = 0  # that decode and crop; 0: one a core
    prefetch: int = 2  # batches made ahead

    def checks(self) -> Iterator[Check]:
        """What the values have to be."""
        yield at_least("data.repeats", self.repeats, 1)
        yield below("data.repeats", self.repeats)
        yield bool(self.name), "data.name must name a dataset, got an empty string"
        yield 0 < self.min_area <= 1, f"data.min_area must be in (0, 1], got {self.min_area}"
        yield 0.1 <= self.eval_crop <= 1, f"data.eval_crop must be in [0.1, 1], got {self.eval_crop}"
        yield (self.mean is None) == (self.std is None), "data.mean and data.std go together: give both or neither"
        mean, std = self.mean or (), self.std or ()
        alike = None in (self.mean, self.std) or len(mean) == len(std)
        yield alike, f"data.mean has {len(mean)} numbers and data.std {len(std)}: give both one for each channel"
        yield finite("data.mean", mean)
        for value in self.std or ():
            yield positive("data.std", value)
        yield share("data.max_corrupt", self.max_corrupt, one=True)
        yield at_least("data.threads", self.threads, 0)
        yield at_least("data.prefetch", self.prefetch, 1)

    def channel_checks(self, channels: int) -> Iterator[Check]:
        """What mean and std have to be for a model of so many channels."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            given = values is None or len(values) == channels
            yield (
                given,
                f"data.{name} must have one number for each of the model's {channels} channels, got {values}: "
                f"give {channels}, or None",
            )
