"""How much of a device's arithmetic a run uses: its operations over those that the device could do."""

import re
from math import prod
from typing import Any

from train.config import TrainConfig
from train.optimizer.frozen import frozen_names
from vit_convert.config import ViTConfig
from vit_convert.hub import hub_shapes
from vit_convert.roles import role

# Dense bfloat16 operations a second of one JAX device, by its device_kind: the makers' data sheets. A TPU v2 or v3 chip
# is two devices. What is not listed has no known peak, and then there is no MFU; so has float32, whose peak depends on
# how exact its products are asked for.
PEAKS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,  # SXM; with sparsity twice that
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
}


def peak(device: Any, dtype: str) -> float | None:
    """Operations a second that a JAX device can do in this dtype, where that is known."""
    if dtype != "bfloat16":
        return None
    matching = [name for name in PEAKS if re.match(rf"{name}\b", device.device_kind)]  # an L40 is no L4
    return PEAKS[max(matching, key=len)] if matching else None


def step_flops(config: ViTConfig, batch_size: int, trained_share: float = 1.0) -> float:
    """Floating-point operations of one train step: a forward pass, and a backward pass of twice as many.

    Model operations as Chowdhery et al. 2022 (PaLM, appendix B) count them: those of matrix products alone, none for
    what is rematerialised. `trained_share` is the part of the operations whose gradients are computed.
    """
    return batch_size * forward_flops(config) * (1 + 2 * trained_share)


def train_flops(config: TrainConfig) -> float:
    """Of one step of a run. What is frozen has no gradient of its own: its kernels' share of all is left out of the
    backward pass, which is nearly what that saves."""
    shapes = {name: shape for name, shape in hub_shapes(config.model).items() if role(name) == "kernel"}
    frozen = frozen_names(config.optimizer.frozen, hub_shapes(config.model))
    trained = sum(prod(shape) for name, shape in shapes.items() if name not in frozen)
    return step_flops(config.model, config.batch_size, trained / sum(map(prod, shapes.values())))


def forward_flops(config: ViTConfig) -> float:
    """Of one image: two for each multiplication in a matrix product."""
    c, patches = config, config.num_patches
    tokens = patches + c.num_prefix
    embed = patches * c.in_channels * c.patch_hw[0] * c.patch_hw[1] * c.dim
    hidden = c.mlp_dim * (3 if c.mlp == "swiglu" else 2)
    block = tokens * c.dim * (4 * c.dim + hidden) + 2 * tokens * tokens * c.dim
    pool = c.dim * (2 * c.dim + patches * (2 * c.dim + 2) + 2 * c.mlp_dim) if c.pool == "map" else 0
    heads = 2 if c.pool == "class_dist" else 1
    head = heads * (c.pre_logits or c.pooled_dim) * c.num_classes + c.pooled_dim * c.pre_logits
    return 2.0 * (embed + c.depth * block + pool + head)
