"""The checkpoint that is verified, as either framework loads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import torch

import vit_flax
import vit_torch
from train.config import ConfigError
from train.workdir import checkpoint_of
from vit_convert.checkpoint import Checkpoint, open_checkpoint
from vit_convert.errors import CheckpointError
from vit_convert.files import find_weights
from vit_convert.files.hub_source import is_hub_name


@dataclass(frozen=True)
class Source:
    """A checkpoint of any layout, and what the user said of it."""

    given: str  # as the user named it
    path: str  # where its weights lie on this machine
    checkpoint: Checkpoint
    preset: str | None
    answers: Mapping[str, Any]  # preset, overrides, weights: arguments of open_checkpoint and from_pretrained

    def torch(self, dtype: str) -> vit_torch.ViT:
        """The PyTorch model, its weights rounded to a dtype."""
        return vit_torch.ViT.from_pretrained(self.path, dtype=getattr(torch, dtype), **self.answers)

    def flax(self, dtype: str, **run: Any) -> vit_flax.ViT:
        """The Flax model likewise; `run` are arguments of the model."""
        return vit_flax.ViT.from_pretrained(self.path, param_dtype=getattr(jnp, dtype), **self.answers, **run)


def open_source(
    given: str,
    *,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    weights: str | None = None,
) -> Source:
    """Opens a file, a directory of any library, the folder of a run or hf-hub:owner/name; reads no data yet.

    Args:
        preset, overrides, weights: as vit_convert.checkpoint.open_checkpoint has them.

    Raises:
        CheckpointError: as open_checkpoint, or tensors that no model computes in, or a run that has no checkpoint yet.
    """
    try:
        path = checkpoint_of(given)
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    if is_hub_name(path):
        path = str(find_weights(path))  # the hub is asked once
    answers: dict[str, Any] = dict(preset=preset, overrides=overrides or {}, weights=weights)
    checkpoint = open_checkpoint(path, **answers)
    checkpoint.check_floating()
    return Source(given, path, checkpoint, preset, answers)
