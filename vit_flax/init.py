"""Every initial value of the model, in one place.

| parameter                                 | initial distribution                                   |
|-------------------------------------------|--------------------------------------------------------|
| weights of linear layers, `pos_embed`, `dist_token` | normal, standard deviation 0.02              |
| their biases                              | 0                                                      |
| `patch_embed.proj` weight and bias        | uniform in +-1/sqrt(fan_in), fan_in = C * patch area   |
| `cls_token`, `reg_token`                  | normal, standard deviation 1e-6                        |
| `attn_pool.latent`                        | normal cut at +-2, times D**-0.5                       |
| norms                                     | weight 1, bias 0                                       |
| layer scale                               | 1e-5                                                   |

As timm models/vision_transformer.py, init_weights_vit_timm: its trunc_normal_(std=0.02) cuts at
+-2, a hundred standard deviations away, and so is a normal; its patch projection keeps Conv2d's
own uniform; its latent has trunc_normal_tf_, cut before it is scaled. One thing differs: timm starts
the value half of a swiglu's fc1 near a constant 1, we start it like every linear layer, as DINOv2.
Other starts (a zero head, a head bias) belong to a training config.
"""

from math import erf

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from vit_convert.roles import role
from vit_flax.names import parameters_by_name


def init_weights(model: nnx.Module, rngs: nnx.Rngs) -> None:
    """Draws every parameter of a ViT anew, in place."""
    parameters = parameters_by_name(model)
    *patch, _ = parameters["patch_embed.proj.weight"].shape
    fan_in = patch[0] * patch[1] * patch[2]
    # mirror: one draw, cut into pieces and reshaped in distribution: XLA compiles each draw for up to a second.
    begin, total = 0, sum(parameter.size for parameter in parameters.values())
    noise = jax.random.normal(rngs.params(), (total,), parameters["patch_embed.proj.weight"].dtype)
    for name, parameter in parameters.items():
        x = jax.lax.dynamic_slice_in_dim(noise, begin, parameter.size).reshape(parameter.shape)
        parameter.set_value(init_parameter(name, x, fan_in))
        begin += parameter.size


def init_parameter(name: str, x: Array, fan_in: int) -> Array:
    """One parameter, by its hub name, from standard normal `x`. `fan_in` is the patch projection's."""
    kind = role(name)
    if kind == "norm":
        return jnp.full_like(x, 0 if name.endswith("bias") else 1)
    if kind == "layer_scale":
        return jnp.full_like(x, 1e-5)
    if name.startswith("patch_embed.proj"):
        return uniform_of(x) * fan_in**-0.5
    if kind == "bias":
        return jnp.zeros_like(x)
    if name == "attn_pool.latent":
        return 2**0.5 * jax.lax.erf_inv(erf(2**0.5) * uniform_of(x)) * x.shape[-1] ** -0.5
    std = 1e-6 if name in ("cls_token", "reg_token") else 0.02
    return std * x


def uniform_of(x: Array) -> Array:
    """Standard normal to uniform in +-1: twice the normal distribution function, minus one."""
    return jax.lax.erf(x * 0.5**0.5)
