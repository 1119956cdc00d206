"""One framework's run of a batch: every intermediate, the output, and every gradient."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

import vit_flax
import vit_torch
from parity_tests.pairs import Arrays, grads_flax, grads_torch, held_exactly, run_flax, run_torch
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.intermediates import intermediate_names

OUTPUT = "output"  # of a call that asks for no intermediates: torch's fused attention, Flax's scanned layers
LARGEST = 2e9  # bytes of all intermediates in float64, on one side
# Multiplications of one image's forward pass, from which on PyTorch's backward pass in bfloat16 takes minutes on a CPU
# without instructions for it: its own kernel then runs at a fiftieth of float32's speed.
SLOW = 3e9


@dataclass(frozen=True)
class Batch:
    """What every side is given, in numbers that the dtype holds exactly."""

    images: np.ndarray  # (B, H, W, C) float64
    names: tuple[str, ...]  # the intermediates that are kept
    dtype: str
    graded: int  # images of which gradients are taken, from the first
    seed: int  # of the cotangent

    def cotangent(self, shape: Sequence[int]) -> np.ndarray:
        """What the output is multiplied with, for a loss: random."""
        return held_exactly(np.random.default_rng(self.seed + 1).standard_normal(shape), self.dtype)


@dataclass(frozen=True)
class Run:
    """float64 arrays, whatever dtype they were computed in."""

    arrays: Arrays  # the intermediates in the order in which they arise, then OUTPUT
    gradients: Arrays  # of sum(output * cotangent): by hub name, and that of the images; none where none is graded


def make_batch(images: np.ndarray, names: tuple[str, ...], dtype: str, seed: int, gradients: bool = True) -> Batch:
    """Gradients are taken of half of the images, for they cost twice what the outputs do; or of none."""
    return Batch(held_exactly(images, dtype), names, dtype, (len(images) + 1) // 2 * gradients, seed)


def backward_takes_minutes(config: ViTConfig, dtype: str) -> bool:
    """Whether gradients in this dtype are left out, on this machine."""
    if dtype != "bfloat16" or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    inside = config.depth * (4 * config.dim**2 + (2 + (config.mlp == "swiglu")) * config.dim * config.mlp_dim)
    return (config.num_prefix + config.num_patches) * inside > SLOW


def names_for(config: ViTConfig, count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The intermediates that are compared, and what is to be said of others.

    All of them; of models whose attention weights would fill the memory, only those of the first and the last block.
    """
    names = intermediate_names(config)
    tokens = config.num_prefix + config.num_patches
    weights = count * config.depth * config.num_heads * tokens**2 * 8
    if weights <= LARGEST:
        return names, ()
    kept = {f"blocks.{i}.attn.weights" for i in (0, config.depth - 1)}
    said = (
        f"attention weights are compared in the first and the last block: all of them are {weights / 1e9:.0f} GB. What "
        "every block makes of them is compared"
    )
    return tuple(name for name in names if not name.endswith(".attn.weights") or name in kept), (said,)


def run_in_torch(model: vit_torch.ViT, batch: Batch) -> Run:
    output = run_torch(model, batch.images)["output"]
    arrays = run_torch(model, batch.images, batch.names)
    graded = batch.images[: batch.graded]
    cotangent = batch.cotangent((len(graded), *output.shape[1:]))
    gradients = grads_torch(model, graded, cotangent) if len(graded) else {}
    return Run({name: arrays[name] for name in batch.names} | {OUTPUT: output}, gradients)


def run_in_flax(model: vit_flax.ViT, batch: Batch) -> Run:
    output = run_flax(model, batch.images)["output"]
    arrays = run_flax(model, batch.images, batch.names)
    graded = batch.images[: batch.graded]
    cotangent = batch.cotangent((len(graded), *output.shape[1:]))
    gradients = grads_flax(model, graded, cotangent) if len(graded) else {}
    return Run({name: arrays[name] for name in batch.names} | {OUTPUT: output}, gradients)


def check_finite(run: Run, what: str) -> None:
    """Raises CheckpointError where the truth itself isn't finite: there is nothing to compare with."""
    for name, array in (run.arrays | run.gradients).items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{what}: PyTorch's own {name} isn't finite in float64, so nothing can be compared")
