"""An export against the model that it was made of, on real images: what it costs, and whether that is rounding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_tools.export.base import Run
from vit_tools.model import Model

# The largest difference, as a part of the largest logit, that rounding explains: a dozen layers of it in float32, and
# what 11 and 8 bits of significand lose. int8's scales depend on the image: half of the largest logit is a broken one.
BOUNDS = {"float32": 1e-4, "float16": 5e-2, "bfloat16": 2e-1, "int8": 5e-1}


@dataclass(frozen=True)
class Checked:
    """How an export compares with its model."""

    images: int
    difference: float  # the largest of any logit, over the largest logit; infinite for another shape, or no numbers
    same_top1: int  # images with the same most probable class

    def fine(self, dtype: str) -> bool:
        """Whether rounding explains it."""
        return self.difference <= BOUNDS[dtype]


def check(run: Run, model: Model, images: npt.NDArray[np.float32]) -> Checked:
    """Runs both on preprocessed images (N, H, W, C)."""
    return compared(answers(run, images), answers(lambda part: model(part)[0], images))


def answers(run: Run, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """What it says of images (N, H, W, C), given in batches of several sizes, for the batch is dynamic."""
    return np.concatenate([run(part) for part in parts(images)]).astype(np.float64)


def compared(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> Checked:
    """An export's logits (N, K) beside the model's."""
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return Checked(len(theirs), float("inf"), 0)
    largest = np.abs(theirs).max() or 1.0  # a head of zeros
    same = int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    return Checked(len(theirs), float(np.abs(ours - theirs).max() / largest), same)


def together(found: Sequence[Checked]) -> Checked:
    """What several comparisons came to: the worst."""
    worst = max(checked.difference for checked in found)
    return Checked(sum(c.images for c in found), worst, sum(c.same_top1 for c in found))


def other_sizes(images: npt.NDArray[Any], patch: tuple[int, int]) -> Iterator[npt.NDArray[Any]]:
    """The images (N, H, W, C) with a row of patches more, with two columns of them less (if two are left), and with
    both more: what is added mirrors the border."""
    height, width = patch
    yield np.pad(images, ((0, 0), (0, height), (0, 0), (0, 0)), mode="symmetric")
    if images.shape[2] >= 4 * width:
        yield images[:, :, : -2 * width]
    yield np.pad(images, ((0, 0), (0, height), (0, 2 * width), (0, 0)), mode="symmetric")


def parts(images: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """The images in batches of 1, 2, 3, ..."""
    at = 0
    for size in range(1, len(images) + 1):
        if at < len(images):
            yield images[at : at + size]
        at += size


def photographs(count: int = 9) -> list[Any]:
    """Parts of scikit-learn's two photographs."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    whole = [Image.fromarray(image) for image in load_sample_images().images]
    chosen = [whole[i % 2].crop((40 * i, 20 * i, 40 * i + 260, 20 * i + 220)) for i in range(count - 2)]
    return [*whole, *chosen]
