"""State: what a step updates, beside the model's parameters."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vit_torch.training.frozen import frozen_names
from vit_torch.training.hyper import Hyper
from vit_torch.vit import ViT


@dataclass
class State:
    """What a step updates, beside the model's parameters. All by hub name."""

    step: int  # updates made
    mu: dict[str, Tensor]  # mean of the gradient, or sgd's velocity: of trained parameters
    nu: dict[str, Tensor]  # mean of its square: of trained parameters
    ema: dict[str, Tensor]  # averaged parameters: of all


def init_state(model: ViT, hyper: Hyper | None = None) -> State:
    """Moments of zero, of those parameters alone that are trained (all, without `hyper`), and the EMA at the initial
    parameters."""
    zeros = {name: torch.zeros_like(p) for name, p in trained_parameters(model, hyper).items()}
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    return State(0, zeros, {name: z.clone() for name, z in zeros.items()}, average)


def trained_parameters(model: ViT, hyper: Hyper | None) -> dict[str, Tensor]:
    """Hub name -> parameter of what isn't frozen. The values carry no gradient history."""
    params = dict(model.named_parameters())
    frozen = frozen_names(hyper.frozen, params) if hyper else set()
    return {name: p for name, p in params.items() if name not in frozen}
