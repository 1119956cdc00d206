"""torchvision's VisionTransformer, made in float64."""

from collections.abc import Mapping
from typing import Any

import torch

from parity_tests.peers import import_torchvision
from parity_tests.real.base import Forward
from vit_convert.config import ViTConfig


def make(state: Mapping[str, torch.Tensor] | None = None, **options: Any) -> torch.nn.Module:
    """The class with these arguments; `state` is loaded strictly."""
    import_torchvision()
    from torchvision.models.vision_transformer import VisionTransformer

    model = VisionTransformer(**options).double().eval()
    if state is not None:
        model.load_state_dict(state)
    return model


def options_of(config: ViTConfig) -> dict[str, Any]:
    """The class's arguments for a config: torchvision has no config file."""
    return dict(
        image_size=config.image_hw[0],
        patch_size=config.patch_hw[0],
        num_layers=config.depth,
        num_heads=config.num_heads,
        hidden_dim=config.dim,
        mlp_dim=config.mlp_dim,
        num_classes=config.num_classes,
        representation_size=config.pre_logits or None,
    )


def answer(model: torch.nn.Module) -> Forward:
    return Forward(model, torch.nn.Module.__call__)
