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

import torch
from torch import Tensor, nn

from vit_convert.roles import role


@torch.no_grad()
def init_weights(model: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draws every parameter of a ViT anew, in place."""
    parameters = dict(model.named_parameters())
    fan_in = parameters["patch_embed.proj.weight"][0].numel()
    for name, parameter in parameters.items():
        init_parameter(name, parameter, fan_in, generator)


def init_parameter(name: str, x: Tensor, fan_in: int, generator: torch.Generator | None) -> None:
    """One parameter, by its hub name. `fan_in` is the patch projection's."""
    kind = role(name)
    if kind == "norm":
        x.fill_(0 if name.endswith("bias") else 1)
    elif kind == "layer_scale":
        x.fill_(1e-5)
    elif name.startswith("patch_embed.proj"):
        x.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
    elif kind == "bias":
        x.zero_()
    elif name == "attn_pool.latent":
        nn.init.trunc_normal_(x, 0, 1, -2, 2, generator=generator).mul_(x.shape[-1] ** -0.5)
    else:
        std = 1e-6 if name in ("cls_token", "reg_token") else 0.02
        x.normal_(0, std, generator=generator)
