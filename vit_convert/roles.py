"""What a tensor is for, read from its hub name alone.

Shapes don't tell: a stacked bias has two axes, a position table three. So weight decay, layer-wise
rates and sharding ask for the role.
"""

from typing import Literal

Role = Literal["kernel", "bias", "norm", "layer_scale", "token", "position"]

LINEARS = {"proj", "qkv", "q", "k", "v", "fc1", "fc2", "pre_logits", "head", "head_dist"}
NORMS = {"norm_pre", "norm", "norm1", "norm2", "q_norm", "k_norm", "fc_norm"}
TOKENS = {"cls_token", "dist_token", "reg_token", "attn_pool.latent"}


def role(name: str) -> Role:
    """The role of the tensor with this hub name.

    Raises:
        ValueError: no hub tensor is called that.
    """
    module, _, leaf = name.rpartition(".")
    kind = module.rpartition(".")[2]
    if name in TOKENS:
        return "token"
    if name == "pos_embed":
        return "position"
    if leaf == "gamma" and kind in ("ls1", "ls2"):
        return "layer_scale"
    if kind in NORMS and leaf in ("weight", "bias"):
        return "norm"
    if kind in LINEARS and leaf in ("weight", "bias"):
        return "kernel" if leaf == "weight" else "bias"
    if kind == "attn" and leaf in ("q_bias", "v_bias"):
        return "bias"
    raise ValueError(f"{name!r} is not a hub name: no role is known for it; hub names end like 'attn.qkv.weight'")


def decays(name: str) -> bool:
    """Whether weight decay applies: to the kernels of linear and patch layers, and to nothing else."""
    return role(name) == "kernel"


def hidden(name: str) -> bool:
    """Whether it is a matrix between hidden features, which Muon makes orthogonal: the kernel of a linear layer in a
    block. False for what is no hub name."""
    module, _, leaf = name.rpartition(".")
    return name.startswith("blocks.") and module.rpartition(".")[2] in LINEARS and leaf == "weight"
