"""The hub: the native names and shapes, which every foreign layout has one table to.

The names are the field's own (timm, DeiT, DINO, MAE); `vit_torch.ViT(config).state_dict()` has
exactly these, in this order.
"""

from math import prod

from vit_convert.axes import Shape
from vit_convert.config import ViTConfig


def hub_shapes(config: ViTConfig) -> dict[str, Shape]:
    """Native name -> shape (torch layout) of every tensor that a model of this config has."""
    dim, fc1 = config.dim, config.mlp_dim * (2 if config.mlp == "swiglu" else 1)
    shapes: dict[str, Shape] = {}
    if config.class_token:
        shapes["cls_token"] = (1, 1, dim)
    if config.dist_token:
        shapes["dist_token"] = (1, 1, dim)
    if config.num_registers:
        shapes["reg_token"] = (1, config.num_registers, dim)
    if config.pos_embed == "learned":
        shapes["pos_embed"] = (1, config.num_pos_prefix + config.num_patches, dim)
    shapes |= _linear("patch_embed.proj", (dim, config.in_channels, *config.patch_hw), config.patch_bias)
    if config.patch_norm:
        shapes |= _norm(config, "patch_embed.norm", dim)
    if config.pre_norm:
        shapes |= _norm(config, "norm_pre", dim)
    for i in range(config.depth):
        shapes |= _block(config, f"blocks.{i}", fc1)
    if config.final_norm == "tokens":
        shapes |= _norm(config, "norm", dim)
    if config.pool == "map":
        shapes |= _attn_pool(config)
    if config.final_norm == "pooled":
        shapes |= _norm(config, "fc_norm", dim)
    width = config.pooled_dim
    if config.pre_logits:
        shapes |= _linear("pre_logits", (config.pre_logits, width), True)
        width = config.pre_logits
    if config.num_classes:
        for head in ("head", "head_dist")[: 1 + (config.pool == "class_dist")]:
            shapes |= _linear(head, (config.num_classes, width), config.head_bias)
    return shapes


def num_parameters(config: ViTConfig) -> int:
    """How many numbers a model of this config holds."""
    return sum(prod(shape) for shape in hub_shapes(config).values())


def _block(config: ViTConfig, block: str, fc1: int) -> dict[str, Shape]:
    dim, shapes = config.dim, _norm(config, f"{block}.norm1", config.dim)
    shapes |= _linear(f"{block}.attn.qkv", (3 * dim, dim), config.qkv_bias == "all")
    if config.qkv_bias == "qv":
        shapes |= {f"{block}.attn.q_bias": (dim,), f"{block}.attn.v_bias": (dim,)}
    if config.qk_norm:
        shapes |= _norm(config, f"{block}.attn.q_norm", config.head_dim)
        shapes |= _norm(config, f"{block}.attn.k_norm", config.head_dim)
    if config.attn_norm:
        shapes |= _norm(config, f"{block}.attn.norm", dim)
    shapes |= _linear(f"{block}.attn.proj", (dim, dim), config.proj_bias)
    if config.layer_scale:
        shapes[f"{block}.ls1.gamma"] = (dim,)
    shapes |= _norm(config, f"{block}.norm2", dim)
    shapes |= _linear(f"{block}.mlp.fc1", (fc1, dim), config.mlp_bias)
    if config.mlp_norm:
        shapes |= _norm(config, f"{block}.mlp.norm", config.mlp_dim)
    shapes |= _linear(f"{block}.mlp.fc2", (dim, config.mlp_dim), config.mlp_bias)
    if config.layer_scale:
        shapes[f"{block}.ls2.gamma"] = (dim,)
    return shapes


def _attn_pool(config: ViTConfig) -> dict[str, Shape]:
    """MAP head (Zhai et al. 2022, Scaling Vision Transformers): always with biases and a plain mlp."""
    dim, shapes = config.dim, {"attn_pool.latent": (1, 1, config.dim)}
    for part in ("q", "k", "v", "proj"):
        shapes |= _linear(f"attn_pool.{part}", (dim, dim), True)
    shapes |= _norm(config, "attn_pool.norm", dim)
    shapes |= _linear("attn_pool.mlp.fc1", (config.mlp_dim, dim), True)
    shapes |= _linear("attn_pool.mlp.fc2", (dim, config.mlp_dim), True)
    return shapes


def _linear(name: str, shape: Shape, bias: bool) -> dict[str, Shape]:
    return {f"{name}.weight": shape} | ({f"{name}.bias": shape[:1]} if bias else {})


def _norm(config: ViTConfig, name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,)} | ({f"{name}.bias": (width,)} if config.norm == "layer" else {})
