"""Attention maps: how much of each patch reached the feature that a model answers from.

The weights come from either framework: `model(images, intermediates=wanted(config))`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_convert.config import ViTConfig, grid_of

Maps = npt.NDArray[np.float64]  # (B, rows, columns)


@dataclass(frozen=True)
class Attention:
    """What a model looked at in B images, patch by patch: shares of all that is read, an even one being 1 / T."""

    heads: npt.NDArray[np.float64]  # (B, H, rows, columns): the last layer that reads, head by head
    mean: Maps  # the heads averaged
    rollout: Maps  # through all layers
    norms: Maps  # Euclidean norm of each patch's token after the last block
    prefix: npt.NDArray[np.float64]  # (B,): what the last layer reads of class, distillation and register tokens


def wanted(config: ViTConfig) -> tuple[str, ...]:
    """The intermediates that `attention` is computed from."""
    weights = [f"blocks.{i}.attn.weights" for i in range(config.depth)]
    return (*weights, *["attn_pool.weights"] * (config.pool == "map"), f"blocks.{config.depth - 1}")


def attention(found: Mapping[str, Any], config: ViTConfig, image_size: tuple[int, int] | None = None) -> Attention:
    """The maps of a model's intermediates, arrays of either framework.

    A model pooled by its class token (and distillation token) is asked what that reads in the last block; one pooled
    by the mean of its patches, what all of those read together; one with attention pooling, what its learned query
    reads.

    Raises:
        ValueError: the weights don't fit the config's tokens.
    """
    grid, prefix = grid_of(image_size or config.image_hw, config.patch_hw), config.num_prefix
    layers = [_checked(found[f"blocks.{i}.attn.weights"], prefix + grid[0] * grid[1]) for i in range(config.depth)]
    rolled = rollout([weights.mean(1) for weights in layers])
    if config.pool == "map":
        pool = as_numpy(found["attn_pool.weights"])  # (B, H, patches)
        heads, read = pool, np.einsum("bn,bnt->bt", pool.mean(1), rolled[:, prefix:])
        of_prefix = np.zeros(len(pool))
    else:
        rows = readers(config)
        heads, read = layers[-1][:, :, rows, prefix:].mean(2), rolled[:, rows].mean(1)
        of_prefix = layers[-1][:, :, rows, :prefix].sum(-1).mean((1, 2))
    tokens = as_numpy(found[f"blocks.{config.depth - 1}"])[:, prefix:]
    B, H = heads.shape[:2]
    return Attention(
        heads=heads.reshape(B, H, *grid),
        mean=heads.mean(1).reshape(B, *grid),
        rollout=read[:, prefix:].reshape(B, *grid),
        norms=np.linalg.norm(tokens, axis=-1).reshape(B, *grid),
        prefix=of_prefix,
    )


def readers(config: ViTConfig) -> slice:
    """The tokens whose reading makes the pooled feature: class, class and distillation, or all patches. Of class_mean
    it is the class token, for the mean reads every patch alike."""
    if config.pool in ("class", "class_mean"):
        return slice(0, 1)
    return slice(0, 2) if config.pool == "class_dist" else slice(config.num_prefix, None)


def rollout(layers: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Attention rollout (Abnar & Zuidema 2020, section 3): (B, T, T) weights of each layer -> (B, T, T).

    Half of what a token is comes from the residual stream: A = (W + I) / 2 (its eq. in section 3.1), and the layers
    are multiplied. Row t is what token t came to read of each input token; it sums to 1.
    """
    through = np.broadcast_to(np.eye(layers[0].shape[-1]), layers[0].shape)
    for weights in layers:
        through = (weights + np.eye(weights.shape[-1])) / 2 @ through
    return np.asarray(through)


def attention_map(weights: Any, config: ViTConfig, image_size: tuple[int, int] | None = None) -> Maps:
    """How much each patch was looked at in one block: (B, H, T, T) softmax weights of either framework -> (B, rows,
    columns), as `Attention.mean` has it of the last block.

    Each map sums to the part of the attention that falls on patches: what class and register tokens take is missing,
    not spread. A model with attention pooling is asked here what its patches read together.

    Raises:
        ValueError: the weights don't fit the config's tokens.
    """
    grid, prefix = grid_of(image_size or config.image_hw, config.patch_hw), config.num_prefix
    of = _checked(weights, prefix + grid[0] * grid[1])
    return of[:, :, readers(config), prefix:].mean((1, 2)).reshape(-1, *grid)


def as_numpy(array: Any) -> npt.NDArray[np.float64]:
    """An array of either framework in float64; torch's may need a gradient or be bfloat16."""
    if hasattr(array, "detach"):
        array = array.detach().cpu().double()
    return np.asarray(array, np.float64)


def _checked(weights: Any, tokens: int) -> npt.NDArray[np.float64]:
    found = as_numpy(weights)
    if found.ndim != 4 or found.shape[2:] != (tokens, tokens):
        raise ValueError(f"attention weights must be (B, H, {tokens}, {tokens}), got {found.shape}")
    return found
