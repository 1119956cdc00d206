"""Adafactor (Shazeer & Stern 2018) as Zhai et al. 2022 have it: moments in little memory, decoupled from the rate."""

from typing import Any

import jax.numpy as jnp
import optax
from jax import Array

from train.config import OptimizerConfig
from train.optimizer.decay import add_decay

# Smaller axes keep the whole mean square (big_vision optax.py, scale_by_adafactor; optax's own default is 128).
MIN_SIZE = 32
EPS = 1e-30  # beside the squared gradient, likewise
EXPONENT = 0.8  # of the memory, which grows as 1 - t ** -EXPONENT


def adafactor(config: OptimizerConfig, peak: float, momentum_dtype: Any = jnp.bfloat16) -> optax.GradientTransformation:
    """gradient / root of the factored mean square, averaged with beta1 in bfloat16; and decay beside it.

    As google-research/big_vision, optax.py, scale_by_adafactor, and "Scaling Vision Transformers", section 3.4: the
    memory of squares is at most beta2, no update clipping, no rate relative to the parameters. Its qkv are three
    parameters with their own factors; here they are one, and share them.
    """

    def memory(count: Any, exponent: Any) -> Array:
        t = jnp.asarray(count + 1, jnp.result_type(float))
        return jnp.minimum(config.beta2, 1 - t**-exponent)

    return optax.chain(
        optax.scale_by_factored_rms(
            decay_rate=EXPONENT, min_dim_size_to_factor=MIN_SIZE, epsilon=EPS, decay_rate_fn=memory
        ),
        optax.ema(config.beta1, debias=False, accumulator_dtype=momentum_dtype),
        add_decay(config, peak),
    )
