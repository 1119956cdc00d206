"""Every hub name there can be, by the kind of layer: what a layout's table has to cover."""

BLOCK = "blocks.{block}"

LINEARS = (
    f"{BLOCK}.attn.qkv",
    f"{BLOCK}.attn.proj",
    f"{BLOCK}.mlp.fc1",
    f"{BLOCK}.mlp.fc2",
    "attn_pool.q",
    "attn_pool.k",
    "attn_pool.v",
    "attn_pool.proj",
    "attn_pool.mlp.fc1",
    "attn_pool.mlp.fc2",
    "pre_logits",
    "head",
    "head_dist",
)
NORMS = (
    "norm_pre",
    f"{BLOCK}.norm1",
    f"{BLOCK}.attn.q_norm",
    f"{BLOCK}.attn.k_norm",
    f"{BLOCK}.attn.norm",
    f"{BLOCK}.norm2",
    f"{BLOCK}.mlp.norm",
    "norm",
    "attn_pool.norm",
    "fc_norm",
)
CONV = "patch_embed.proj"
# Not in a layer of their own, or a bias beside none: the same on every side.
OTHERS = (
    "cls_token",
    "dist_token",
    "reg_token",
    "pos_embed",
    f"{BLOCK}.attn.q_bias",
    f"{BLOCK}.attn.v_bias",
    f"{BLOCK}.ls1.gamma",
    f"{BLOCK}.ls2.gamma",
    "attn_pool.latent",
)
HUB = (
    *OTHERS,
    *(f"{layer}.{leaf}" for layer in (CONV, *LINEARS, *NORMS) for leaf in ("weight", "bias")),
)
