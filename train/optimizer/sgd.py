"""Stochastic gradient descent with momentum (Sutskever et al. 2013), as torch.optim.SGD."""

import optax

from train.config import OptimizerConfig
from train.optimizer.decay import add_decay


def sgd(config: OptimizerConfig, peak: float) -> optax.GradientTransformation:
    """velocity <- beta1 * velocity + gradient; the step is the velocity, with nesterov gradient + beta1 * velocity.

    Decay is a part of the gradient as in torch (L2), or stands behind the momentum as in big_vision, as
    `decay_times_peak` says.
    """
    momentum = optax.trace(config.beta1, config.nesterov) if config.beta1 else optax.identity()
    decay = add_decay(config, peak)
    return optax.chain(decay, momentum) if config.decay_times_peak else optax.chain(momentum, decay)
