"""The train step, stated in PyTorch: the specification that `train` must equal.

Plain formulas, one function each. No formula draws a random number: `Draws` holds all the randomness of one step.
`train_step` uses them in the order augmentation, accumulate and losses, clipping, schedule, rules, averaging. What lies
in `loop` is no specification, only a use of it, which reproduces recipes:

    python -m vit_torch.training --help

Legend: B images, C channels, (H, W) their size, K classes.
"""

from vit_torch.training.accumulate import gradients, part
from vit_torch.training.augmentation import augment, cutmix, cutmix_lam, flip, mixup, normalise, shift, smooth_one_hot
from vit_torch.training.averaging import ema
from vit_torch.training.clipping import clip, global_norm
from vit_torch.training.draws import Draws
from vit_torch.training.frozen import frozen_names
from vit_torch.training.hyper import Hyper
from vit_torch.training.layers import layer_rate
from vit_torch.training.loop.command import main
from vit_torch.training.losses import LOSSES, binary_cross_entropy, soft_cross_entropy
from vit_torch.training.rules import (
    RULES,
    adam,
    adamw,
    decay_strength,
    lamb,
    momentum,
    muon,
    orthogonal,
    sgd,
    trust_ratio,
)
from vit_torch.training.schedule import learning_rate
from vit_torch.training.state import State, init_state, trained_parameters
from vit_torch.training.step import train_step

__all__ = [
    "LOSSES",
    "RULES",
    "Draws",
    "Hyper",
    "State",
    "adam",
    "adamw",
    "augment",
    "binary_cross_entropy",
    "clip",
    "cutmix",
    "cutmix_lam",
    "decay_strength",
    "ema",
    "flip",
    "frozen_names",
    "global_norm",
    "gradients",
    "init_state",
    "lamb",
    "layer_rate",
    "learning_rate",
    "main",
    "mixup",
    "momentum",
    "muon",
    "normalise",
    "orthogonal",
    "part",
    "sgd",
    "shift",
    "smooth_one_hot",
    "soft_cross_entropy",
    "train_step",
    "trained_parameters",
    "trust_ratio",
]
