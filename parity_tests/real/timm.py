"""timm's models, made in float64."""

from collections.abc import Mapping
from typing import Any

import timm
import torch

from parity_tests.peers import float64_rotary_tables
from parity_tests.real.base import Forward, float_is_double


def make(name: str, state: Mapping[str, torch.Tensor] | None = None, **options: Any) -> torch.nn.Module:
    """A model that timm makes in float64, rotary tables too; `state` is loaded strictly."""
    with float64_rotary_tables():
        model = timm.create_model(name, dtype=torch.float64, **options).eval()
    if state is not None:
        model.load_state_dict(state)
    return model


def answer(model: torch.nn.Module) -> Forward:
    def run(pixels: torch.Tensor) -> torch.Tensor:
        with float_is_double(), float64_rotary_tables():
            return model(pixels)

    return Forward(run, torch.nn.Module.__call__)
