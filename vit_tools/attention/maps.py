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
    return (*layers_that_read(config), f"blocks.{config.depth - 1}")


def layers_that_read(config: ViTConfig) -> tuple[str, ...]:
    """The intermediates with attention weights, in order: the blocks', and those of attention pooling."""
    weights = [f"blocks.{i}.attn.weights" for i in range(config.depth)]
    return tuple(dict.fromkeys((*weights, last_reader(config))))


def last_reader(config: ViTConfig) -> str:
    """The intermediate with the weights by which the pooled feature was read."""
    return "attn_pool.weights" if config.pool == "map" else f"blocks.{config.depth - 1}.attn.weights"


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
    heads, of_prefix = read(found[last_reader(config)], config, grid)
    if config.pool == "map":
        through = np.einsum("bn,bnt->bt", heads.mean(1), rolled[:, prefix:])
    else:
        through = rolled[:, readers(config)].mean(1)
    tokens = as_numpy(found[f"blocks.{config.depth - 1}"])[:, prefix:]
    B, H = heads.shape[:2]
    return Attention(
        heads=heads.reshape(B, H, *grid),
        mean=heads.mean(1).reshape(B, *grid),
        rollout=through[:, prefix:].reshape(B, *grid),
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
    """How much each patch was looked at: softmax weights of either framework -> (B, rows, columns), as
    `Attention.mean` has it of `last_reader`.

    Each map sums to the part of the attention that falls on patches: what class and register tokens take is missing,
    not spread.

    Args:
        weights: (B, H, T, T) of one block, or (B, H, patches) of attention pooling.

    Raises:
        ValueError: the weights don't fit the config's tokens.
    """
    grid = grid_of(image_size or config.image_hw, config.patch_hw)
    return read(weights, config, grid)[0].mean(1).reshape(-1, *grid)


def read(weights: Any, config: ViTConfig, grid: tuple[int, int]) -> tuple[npt.NDArray[np.float64], Any]:
    """What the readers, or the learned query of attention pooling, read of each patch, head by head (B, H, patches);
    and of all other tokens together (B,)."""
    found, prefix = as_numpy(weights), config.num_prefix
    if config.pool == "map" and found.ndim == 3:
        if found.shape[2] != grid[0] * grid[1]:
            raise ValueError(f"weights of attention pooling must be (B, H, {grid[0] * grid[1]}), got {found.shape}")
        return found, np.zeros(len(found))
    found = _checked(found, prefix + grid[0] * grid[1])[:, :, readers(config)]
    return found[..., prefix:].mean(2), found[..., :prefix].sum(-1).mean((1, 2))


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
