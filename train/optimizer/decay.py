"""Weight decay: of which parameters, and how strong beside the learning rate."""

from typing import Any

import optax

from train.config import OptimizerConfig
from vit_convert.layouts.native import hub_name
from vit_convert.roles import decays


def decay_mask(params: dict[str, Any]) -> dict[str, bool]:
    """Which parameters decay: by name and role, never by shape."""
    return {path: decays(hub_name(path)) for path in params}


def add_decay(config: OptimizerConfig, peak: float) -> optax.GradientTransformation:
    """strength * parameter, added to what the learning rate will multiply.

    In torch and timm the strength is the weight decay, so that decay is times the rate (Loshchilov & Hutter 2019,
    algorithm 2, with schedule and rate in one). In big_vision (optax.py, make) decay is times the rate's share of its
    peak alone: the peak is taken out beforehand.
    """
    strength = config.weight_decay if config.decay_times_peak else config.weight_decay / peak
    return optax.add_decayed_weights(strength, mask=decay_mask)
