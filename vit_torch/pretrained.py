"""Loading and saving: torch tensors in, torch tensors out, everything else is vit_convert's."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from os import PathLike
from typing import Any, Self

import ml_dtypes
import numpy as np
import torch
from torch import Tensor, nn

from vit_convert.checkpoint import open_checkpoint, save_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess

logger = logging.getLogger(__name__)


class Pretrained(nn.Module):
    """`from_pretrained` and `save_pretrained` of a model with a ViTConfig and the hub's names."""

    config: ViTConfig
    preprocess: Preprocess | None
    labels: tuple[str, ...] | None

    @classmethod
    def from_pretrained(
        cls,
        path: str | PathLike[str],
        *,
        preset: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        image_size: int | tuple[int, int] | None = None,
        num_classes: int | None = None,
        weights: str | None = None,
        dtype: torch.dtype | None = None,
        **run: Any,
    ) -> Self:
        """Loads a checkpoint of any layout that vit_convert knows.

        Args:
            path: a file, a directory, an Orbax step of a training run, or hf-hub:owner/name.
            preset: a name of vit_convert.presets, where names and shapes don't tell the config.
            overrides: ViTConfig fields that win over what the checkpoint says.
            image_size: resize the position table for this image size, by the config's own rule; logged.
            num_classes: 0 drops the head, another number than the checkpoint's puts a new one of zeros; logged.
            weights: which of several in one file, such as "model" or "model_ema".
            dtype: of the parameters; the checkpoint's own if None (where it has several, their common one).
            **run: arguments of the model.

        Raises:
            CheckpointError: the file can't be read, is of no known layout, leaves config fields
                open, or holds other tensors than its config says.
        """
        checkpoint = open_checkpoint(
            path,
            preset=preset,
            overrides=overrides,
            image_size=image_size,
            num_classes=num_classes,
            weights=weights,
            dtype=None if dtype is None else str(dtype).removeprefix("torch."),
        )
        checkpoint.check_floating()
        log_all(checkpoint.said)
        with torch.device("meta"):  # shapes only: no initial values are drawn
            model = cls(checkpoint.config, **run)
        common = dtype or reduce(torch.promote_types, (getattr(torch, d.name) for d in checkpoint.dtypes.values()))
        state = {name: to_tensor(array, common) for name, array in checkpoint.tensors("native")}
        model.load_state_dict(state, assign=True)
        model.preprocess, model.labels = checkpoint.preprocess, checkpoint.labels
        return model

    def save_pretrained(
        self,
        path: str | PathLike[str],
        *,
        layout: str = "native",
        preprocess: Preprocess | None = None,
        labels: Sequence[str] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Writes a complete checkpoint directory, in the dtypes that the parameters have.

        Args:
            path: the directory to make; an existing one is an error unless `overwrite`.
            layout: a name that `vit-convert formats` lists. What it can't say is logged.
            preprocess: of the images; the model's own if None.
            labels: of the classes; the model's own if None.

        Raises:
            CheckpointError: the layout can't hold this model, or `path` can't be written.
        """
        notes = save_checkpoint(
            path,
            self.config,
            self.numpy_tensors(),
            dtypes={name: to_numpy(x[:0]).dtype for name, x in self.state_dict().items()},
            layout=layout,
            preprocess=preprocess or self.preprocess,
            labels=labels or self.labels,
            overwrite=overwrite,
        )
        log_all(notes)

    def numpy_tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """(hub name, array) of every parameter, in torch layout."""
        for name, tensor in self.state_dict().items():
            yield name, to_numpy(tensor)


def log_all(lines: Iterable[str]) -> None:
    """What was done beside the asked, or could not be done, for those who listen to logging."""
    for line in lines:
        logger.info(line)


def to_tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    """NumPy to torch, bit for bit (bfloat16 too) where the dtype is its own.

    Always a copy, the only one: the array may be a view of the file, and a model must not change with its file.
    """
    tensor = torch.empty(array.shape, dtype=dtype, device="cpu")
    to_numpy(tensor)[...] = array
    return tensor


def to_numpy(tensor: Tensor) -> np.ndarray:
    """Torch to NumPy, bit for bit."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()
