"""The learning rate by step."""

from math import pi

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


def learning_rate(
    step: Array, *, peak: float, warmup_steps: int, total_steps: int, final_fraction: float, dtype: DTypeLike
) -> Array:
    """Linear warmup from 0, then a cosine (Loshchilov & Hutter 2017, eq. 5) down to final_fraction of the peak.

    In dtype, the parameters' own: optax's schedules turn an int32 step into a float32 rate, even under x64.
    """
    t = step.astype(dtype)
    warm = t / max(1, warmup_steps)
    progress = jnp.minimum(1.0, (t - warmup_steps) / max(1, total_steps - warmup_steps))
    cosine = final_fraction + (1 - final_fraction) * 0.5 * (1 + jnp.cos(pi * progress))
    return peak * jnp.where(step < warmup_steps, warm, cosine)
