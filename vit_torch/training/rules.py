"""The update rules: AdamW, LAMB, SGD, Muon, each from a gradient to the new parameter.

A rule takes (hub name, parameter, gradient, state, learning rate of this parameter, hyper), replaces what the state
remembers of the parameter's gradients, and returns the new parameter.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from vit_convert.roles import decays, hidden
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


NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # of x, x x^T x, x (x^T x)^2: steepest at zero (Jordan et al. 2024)
RMS = 0.2  # of a step's numbers: AdamW's, whose learning rate and decay fit then (Liu et al. 2025, equation 4)


def orthogonal(matrix: Tensor, least: float) -> Tensor:
    """Nearly the nearest orthogonal matrix: five steps of Newton and Schulz from the matrix over its norm, whose
    singular values come to lie around 1 (torch/optim/_muon.py, but in the matrix's own dtype). Over `least`, where the
    norm is smaller."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=least)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def muon(name: str, param: Tensor, grad: Tensor, state: State, lr: float, hyper: Hyper) -> Tensor:
    """Jordan et al. 2024, as torch.optim.Muon with match_rms_adamw: of a linear layer's kernel in a block the
    orthogonal matrix nearest to Nesterov's momentum, and decay beside it; of all else AdamW."""
    if not hidden(name):
        return adamw(name, param, grad, state, lr, hyper)
    velocity = state.mu[name] = hyper.beta1 * state.mu[name] + grad
    least = 1e-7 / (1 - hyper.beta1)  # torch's is of a mean of gradients, and this is their sum
    direction = RMS * max(grad.shape) ** 0.5 * orthogonal(grad + hyper.beta1 * velocity, least)
    return param - lr * (direction + decay_strength(name, hyper) * param)


RULES: dict[str, Callable[[str, Tensor, Tensor, State, float, Hyper], Tensor]] = {
    "adamw": adamw,
    "lamb": lamb,
    "sgd": sgd,
    "muon": muon,
}
