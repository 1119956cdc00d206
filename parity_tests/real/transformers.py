"""transformers' models, run in float64."""

from typing import Any

import numpy as np
import torch
import transformers
from transformers.models.dinov3_vit import modeling_dinov3_vit

from parity_tests.peers import float64_rotary_tables
from parity_tests.real.base import Forward, float_is_double

Model = Any  # one of transformers' models


def answer(model: Model, method: str = "__call__", **arguments: Any) -> Forward:
    """What the model says of images: in float64, its head's output or else what its class pools."""
    if isinstance(model, transformers.DINOv3ViTModel):
        with float64_rotary_tables():
            model.rope_embeddings = modeling_dinov3_vit.DINOv3ViTRopePositionEmbedding(model.config)
    model = model.double().eval()
    if isinstance(model, transformers.ViTMAEModel):
        model.config.mask_ratio = 0.0

    def plain(model: Model, pixels: torch.Tensor) -> torch.Tensor:
        return pooled(model, getattr(model, method)(pixels, **arguments, **unshuffled(model, pixels)))

    def run(pixels: torch.Tensor) -> torch.Tensor:
        with float_is_double(), float64_rotary_tables():
            return plain(model, pixels)

    return Forward(run, plain)


def unshuffled(model: Model, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """ViT-MAE orders patches by this noise, even if it hides none."""
    if not isinstance(model, transformers.ViTMAEModel):
        return {}
    patch = np.broadcast_to(model.config.patch_size, 2)
    count = pixels[0, 0].numel() // int(patch.prod())
    return {"noise": torch.arange(count, dtype=torch.float64).expand(len(pixels), -1)}


def pooled(model: Model, result: Any) -> torch.Tensor:
    for name in ("logits", "image_embeds", "pooler_output"):
        if result.get(name) is not None:
            return result[name]
    # These classes leave the pooling to whoever uses them.
    means = isinstance(model, transformers.IJepaModel | transformers.SiglipVisionModel)
    tokens = result.last_hidden_state
    return tokens.mean(1) if means else tokens[:, 0]
