"""LAMB (You et al. 2020, algorithm 2), as timm/optim/lamb.py and apex's FusedLAMB."""

import optax

from train.config import OptimizerConfig
from train.optimizer.decay import add_decay, decay_mask


def lamb(config: OptimizerConfig, peak: float) -> optax.GradientTransformation:
    """AdamW's direction with its decay, times |parameter| / |direction| where the parameter decays.

    A parameter that decay spares (or all, where there is none) keeps Adam's step: timm's `always_adapt=False`, where
    optax.lamb adapts every parameter. The ratio has no upper bound (timm's `trust_clip=False`), and is 1 where either
    norm is zero.
    """
    adapted = optax.masked(optax.scale_by_trust_ratio(), decay_mask) if config.weight_decay else optax.identity()
    return optax.chain(
        optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.eps),
        add_decay(config, peak),
        adapted,
    )
