"""Every hub name there can be, with {block} for its number: what a layout's table has to cover."""

from vit_convert.config import ViTConfig
from vit_convert.hub import hub_shapes
from vit_convert.roles import role

_MOST = ViTConfig(
    image_size=1, patch_size=1, dim=1, depth=1, num_heads=1, mlp_dim=1, num_classes=1, dist_token=True,
    num_registers=1, patch_norm=True, pre_norm=True, qk_norm=True, attn_norm=True, mlp_norm=True, layer_scale=True,
    pool="map", pre_logits=1,
)  # fmt: skip
# What one model can't have beside the rest.
_OTHERS = (_MOST.replace(qkv_bias="qv", final_norm="pooled"), _MOST.replace(pool="class_dist", pre_logits=0))
HUB = tuple(
    dict.fromkeys(
        name.replace("blocks.0.", "blocks.{block}.") for config in (_MOST, *_OTHERS) for name in hub_shapes(config)
    )
)
CONV = "patch_embed.proj"


def _layers(of: str) -> tuple[str, ...]:
    """The layers whose `weight` has this role, the patch embedding's convolution excepted."""
    layers = (name.removesuffix(".weight") for name in HUB if name.endswith(".weight") and role(name) == of)
    return tuple(layer for layer in layers if layer != CONV)


LINEARS, NORMS = _layers("kernel"), _layers("norm")
