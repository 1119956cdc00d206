"""Update rules as optax transformations, on parameters that are a flat dict by Flax path.

The learning rate is an argument of `update`: the step counts, the schedule computes, nothing counts twice.
"""

from typing import Any

import optax

from train.config import TrainConfig
from train.optimizer.adafactor import adafactor
from train.optimizer.adamw import adamw
from train.optimizer.clip import clip, global_norm
from train.optimizer.lamb import lamb
from train.optimizer.muon import muon
from train.optimizer.rate import scale_by_given_rate
from train.optimizer.sgd import sgd

__all__ = ["global_norm", "make"]

RULES: dict[str, Any] = {"adamw": adamw, "lamb": lamb, "sgd": sgd, "adafactor": adafactor, "muon": muon}


def make(config: TrainConfig) -> optax.GradientTransformationExtraArgs:
    """Clip, the rule with its decay, the rates: `update(grads, state, params, learning_rate=...)`, of those parameters
    alone that are trained."""
    given = config.optimizer
    return optax.chain(
        clip(given.clip_norm) if given.clip_norm is not None else optax.identity(),
        RULES[given.name](given, config.schedule.learning_rate),
        scale_by_given_rate(given.layer_decay, config.model.depth),
    )
