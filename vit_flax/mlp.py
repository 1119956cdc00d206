"""The feed-forward half of a block (Dosovitskiy et al. 2021, eq. 3; Shazeer 2020 for SwiGLU)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from vit_convert.config import ViTConfig
from vit_flax.dropout import dropout
from vit_flax.linear import Linear
from vit_flax.norm import make_norm


def gelu(x: Array) -> Array:
    """Exact GELU (Hendrycks and Gimpel 2016), x * Phi(x), written as torch writes it.

    mirror: jax.nn.gelu is the tanh form by default, and its exact form goes through erfc, which was
    slower on a CPU. The barrier gained a few percent there; neither was timed on an accelerator.
    """
    x = jax.lax.optimization_barrier(x)
    return x * (0.5 * (1 + jax.lax.erf(x * 0.5**0.5)))


def quick_gelu(x: Array) -> Array:
    """OpenAI CLIP's approximation of GELU (openai/CLIP clip/model.py, QuickGELU)."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "quick_gelu": quick_gelu,
    "silu": jax.nn.silu,
}


class Mlp(nnx.Module):
    """fc1, activation (gated for swiglu), optional norm, fc2: (..., D) -> (..., D)."""

    def __init__(self, config: ViTConfig, *, dropout: float = 0.0, rngs: nnx.Rngs, dtype: Any, param_dtype: Any):
        of: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.act = ACTIVATIONS[config.act]
        self.gated = config.mlp == "swiglu"
        self.dropout = dropout
        width = 2 * config.mlp_dim if self.gated else config.mlp_dim
        self.fc1 = Linear(config.dim, width, use_bias=config.mlp_bias, **of)
        self.norm = make_norm(config, config.mlp_dim, **of) if config.mlp_norm else jax.nn.identity
        self.fc2 = Linear(config.mlp_dim, config.dim, use_bias=config.mlp_bias, **of)

    def __call__(self, x: Array, rngs: nnx.Rngs | None = None) -> Array:
        x = self.fc1(x)
        if self.gated:
            gate, x = jnp.split(x, 2, axis=-1)
            x = self.act(gate) * x
        else:
            x = self.act(x)
        x = self.norm(dropout(x, self.dropout, rngs))
        return dropout(self.fc2(x), self.dropout, rngs)
