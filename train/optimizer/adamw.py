"""AdamW (Loshchilov & Hutter 2019, algorithm 2), as torch.optim.AdamW."""

import optax

from train.config import OptimizerConfig
from train.optimizer.decay import add_decay


def adamw(config: OptimizerConfig, peak: float) -> optax.GradientTransformation:
    """mean / (root of mean square + eps), both without their bias to zero; and decay beside it."""
    return optax.chain(
        optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.eps),
        add_decay(config, peak),
    )
