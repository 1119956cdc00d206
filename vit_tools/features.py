"""Features of images: what a model without labels is used for."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_tools.images import Corrupt, Opened, stacked
from vit_tools.model import Array, Found, Model

KINDS = ("pooled", "class", "patches")


@dataclass(frozen=True)
class Batch:
    """What a model said of some images: the output (N, ...) and the intermediates that were asked for (N, ...)."""

    images: list[Opened]
    output: Array
    found: Found


def run(model: Model, batches: Iterable[list[Opened]], names: Sequence[str] = ()) -> Iterator[Batch]:
    """Each batch through the model; Flax's last one is filled up, and cut again, so that one shape is compiled."""
    first = None  # the length of the first: there is no longer one, so that one image doesn't cost a whole batch
    for images in batches:
        first = first or len(images)
        output, found = model(stacked(images, first if model.framework == "flax" else len(images)), names)
        kept = {name: value[: len(images)] for name, value in found.items()}
        yield Batch(images, output[: len(images)], kept)


def answered(batches: Iterable[Batch], told: Callable[[Corrupt], None]) -> Iterator[Batch]:
    """The batches with the images alone of which the output and the pooled features are numbers; the others go to
    `told`. A checkpoint that training ruined says NaN of everything, one that overflows of some."""
    for batch in batches:
        fine = np.ones(len(batch.images), bool)
        for array in (batch.output, *(batch.found[name] for name in ("pooled",) if name in batch.found)):
            fine &= np.isfinite(array).reshape(len(array), -1).all(1)
        for image in (image for image, is_fine in zip(batch.images, fine, strict=True) if not is_fine):
            told(Corrupt(image.path, "the model's output is NaN or infinite", "answered"))
        if fine.any():
            images = [image for image, is_fine in zip(batch.images, fine, strict=True) if is_fine]
            yield Batch(images, batch.output[fine], {name: value[fine] for name, value in batch.found.items()})


def token_source(config: ViTConfig, layer: int | None) -> str:
    """The intermediate that holds the tokens of a layer: 0 to depth - 1 for a block's output, None for the last, after
    the final norm where the model has one for tokens.

    Raises:
        CheckpointError: no such layer.
    """
    if layer is None:
        return "norm" if config.final_norm == "tokens" else f"blocks.{config.depth - 1}"
    if not 0 <= layer < config.depth:
        raise CheckpointError(f"--layer must be from 0 to {config.depth - 1}, the blocks of this model, got {layer}")
    return f"blocks.{layer}"


def features(batch: Batch, config: ViTConfig, source: str) -> dict[str, npt.NDArray[np.float32]]:
    """pooled (N, pooled_dim), class (N, D) where there is a class token, patches (N, rows * columns, D)."""
    tokens = batch.found[source]
    found = {"pooled": batch.found["pooled"], "patches": tokens[:, config.num_prefix :]}
    if config.class_token:
        found["class"] = tokens[:, 0]
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows (N, ...) as vectors of length 1, so that a product of two is their cosine."""
    flat = rows.reshape(len(rows), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
