"""The update rules: AdamW, LAMB, SGD, each from a gradient to the new parameter.

A rule takes (hub name, parameter, gradient, state, learning rate of this parameter, hyper), replaces what the state
remembers of the parameter's gradients, and returns the new parameter.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from vit_convert.roles import decays
from vit_torch.training.hyper import Hyper
from vit_torch.training.state import State


def decay_strength(name: str, hyper: Hyper) -> float:
    """What stands before the parameter in what the learning rate multiplies; 0 where decay spares it.

    In torch and timm decay is times the rate; in big_vision (optax.py, make) times the rate's share of its peak alone,
    so the peak is taken out here.
    """
    if not decays(name):
        return 0.0
    return hyper.weight_decay if hyper.decay_times_peak else hyper.weight_decay / hyper.learning_rate


def adam(name: str, grad: Tensor, state: State, hyper: Hyper) -> Tensor:
    """Kingma & Ba 2015, algorithm 1: mean / (root of the mean square + eps), both without their bias to zero."""
    t = state.step + 1
    mu = state.mu[name] = hyper.beta1 * state.mu[name] + (1 - hyper.beta1) * grad
    nu = state.nu[name] = hyper.beta2 * state.nu[name] + (1 - hyper.beta2) * grad.square()
    return (mu / (1 - hyper.beta1**t)) / ((nu / (1 - hyper.beta2**t)).sqrt() + hyper.eps)


def adamw(name: str, param: Tensor, grad: Tensor, state: State, lr: float, hyper: Hyper) -> Tensor:
    """Loshchilov & Hutter 2019, algorithm 2, as torch.optim.AdamW: decay beside Adam's direction."""
    return param - lr * (adam(name, grad, state, hyper) + decay_strength(name, hyper) * param)


def trust_ratio(param: Tensor, direction: Tensor) -> Tensor:
    """|parameter| / |direction|, without an upper bound; 1 where either is zero (timm/optim/lamb.py)."""
    of_param, of_direction = param.norm(), direction.norm()
    ratio = of_param / of_direction
    return torch.where((of_param > 0) & (of_direction > 0), ratio, torch.ones_like(ratio))


def lamb(name: str, param: Tensor, grad: Tensor, state: State, lr: float, hyper: Hyper) -> Tensor:
    """You et al. 2020, algorithm 2, as timm/optim/lamb.py: AdamW's direction times the trust ratio where the parameter
    decays, and Adam's step elsewhere."""
    decay = decay_strength(name, hyper)
    direction = adam(name, grad, state, hyper) + decay * param
    return param - lr * (trust_ratio(param, direction) * direction if decay else direction)


def momentum(name: str, grad: Tensor, state: State, hyper: Hyper) -> Tensor:
    """velocity <- beta1 * velocity + gradient (Sutskever et al. 2013); with nesterov gradient + beta1 * velocity."""
    if not hyper.beta1:
        return grad
    velocity = state.mu[name] = hyper.beta1 * state.mu[name] + grad
    return grad + hyper.beta1 * velocity if hyper.nesterov else velocity


def sgd(name: str, param: Tensor, grad: Tensor, state: State, lr: float, hyper: Hyper) -> Tensor:
    """As torch.optim.SGD, where decay is a part of the gradient (L2); or, off the peak, behind the momentum, as
    big_vision."""
    decay = decay_strength(name, hyper) * param
    if hyper.decay_times_peak:
        return param - lr * momentum(name, grad + decay, state, hyper)
    return param - lr * (momentum(name, grad, state, hyper) + decay)


RULES: dict[str, Callable[[str, Tensor, Tensor, State, float, Hyper], Tensor]] = {
    "adamw": adamw,
    "lamb": lamb,
    "sgd": sgd,
}
