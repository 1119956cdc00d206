"""State: what a step updates, beside the model's parameters."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vit_convert.training_state import remembers
from vit_torch.training.frozen import frozen_names
from vit_torch.training.hyper import Hyper
from vit_torch.vit import ViT


@dataclass
class State:
    """What a step updates, beside the model's parameters. All by hub name."""

    step: int  # updates made
    mu: dict[str, Tensor]  # mean of the gradient, or sgd's and muon's velocity: of trained parameters
    nu: dict[str, Tensor]  # mean of its square: of those trained parameters of which the rule has it
    ema: dict[str, Tensor]  # averaged parameters: of all


def init_state(model: ViT, hyper: Hyper | None = None) -> State:
    """Moments of zero, of those parameters alone that are trained (all, and adamw's, without `hyper`), and the EMA at
    the initial parameters."""
    trained, rule = trained_parameters(model, hyper), hyper.rule if hyper else "adamw"
    mu, nu = (
        {name: torch.zeros_like(p) for name, p in trained.items() if remembers(rule, kind, name)}
        for kind in ("mu", "nu")
    )
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    return State(0, mu, nu, average)


def trained_parameters(model: ViT, hyper: Hyper | None) -> dict[str, Tensor]:
    """Hub name -> parameter of what isn't frozen. The values carry no gradient history."""
    params = dict(model.named_parameters())
    frozen = frozen_names(hyper.frozen, params) if hyper else set()
    return {name: p for name, p in params.items() if name not in frozen}
