"""What a model of timm's is as a ViTConfig, read from the module itself: the reference for presets and layouts."""

from typing import Any

import torch
from torch import nn

from vit_convert.config import ViTConfig

MODULES = ("vision_transformer", "deit", "eva")  # where timm defines the entry points that are read
ACTS = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu", "SiLU": "silu"}
NORMS = {"LayerNorm": "layer", "RmsNorm": "rms"}
POOLS = {"token": "class", "avg": "mean", "map": "map"}


class Inexpressible(Exception):
    """ViTConfig has no field for something that the model does."""


def entry_points() -> list[str]:
    """Every architecture of timm's VisionTransformer, VisionTransformerDistilled and Eva; deprecated aliases aren't."""
    import timm

    return [name for module in MODULES for name in timm.list_models(module=module)]


def meta_model(name: str, **options: Any) -> Any:
    """An architecture of timm's without its weights; timm would spend most of the time on initial values."""
    import timm
    from timm.models import is_model_in_modules

    quick = {} if is_model_in_modules(name, ["eva"]) else {"weight_init": "skip"}
    with torch.device("meta"):
        return timm.create_model(name, **quick, **options)


def config_of(model: Any) -> ViTConfig:
    """The config of a VisionTransformer, VisionTransformerDistilled or Eva, without its head.

    Raises:
        Inexpressible: it is no ViTConfig's function; the first reason that is found.
    """
    _check_class(model)
    block, patch = model.blocks[0], model.patch_embed
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    _check_geometry(patch)
    _check_attention(block, shapes)
    mlp, mlp_dim, act = _mlp(block.mlp)
    norm, norm_eps = _norm(model)

    def has(name: str) -> bool:
        return f"blocks.0.{name}" in shapes

    return ViTConfig(
        image_size=patch.img_size,
        patch_size=patch.patch_size,
        in_channels=patch.proj.in_channels,
        dim=model.embed_dim,
        depth=len(model.blocks),
        num_heads=block.attn.num_heads,
        mlp_dim=mlp_dim,
        class_token="cls_token" in shapes,
        dist_token="dist_token" in shapes,
        num_registers=shapes.get("reg_token", (0, 0))[1],
        pos_embed="learned" if "pos_embed" in shapes else "none",
        pos_prefix="none" if model.no_embed_class else "all",
        **_rope(model),
        norm=norm,  # type: ignore[arg-type]
        norm_eps=norm_eps,
        patch_norm="patch_embed.norm.weight" in shapes,
        pre_norm="norm_pre.weight" in shapes,
        final_norm=_final_norm(shapes),  # type: ignore[arg-type]
        qk_norm=has("attn.q_norm.weight"),
        attn_norm=has("attn.norm.weight"),
        mlp_norm=has("mlp.norm.weight"),
        layer_scale=has("ls1.gamma") or has("gamma_1"),
        act=act,  # type: ignore[arg-type]
        mlp=mlp,  # type: ignore[arg-type]
        patch_bias="patch_embed.proj.bias" in shapes,
        qkv_bias=_qkv_bias(shapes),  # type: ignore[arg-type]
        proj_bias=has("attn.proj.bias"),
        mlp_bias=has("mlp.fc2.bias"),
        pool=_pool(model),  # type: ignore[arg-type]
    )


def _check_class(model: Any) -> None:
    attention = ("Attention", "EvaAttention", "AttentionRope")
    kinds = {type(model).__name__: ("VisionTransformer", "VisionTransformerDistilled", "Eva")}
    kinds |= {type(block).__name__: ("Block", "EvaBlock") for block in model.blocks}
    kinds |= {type(getattr(block, "attn", None)).__name__: attention for block in model.blocks}
    kinds |= {type(model.patch_embed).__name__: ("PatchEmbed",)}
    for kind, known in kinds.items():
        if kind not in known:
            raise Inexpressible(f"{kind} is none of {', '.join(known)}")


def _check_geometry(patch: Any) -> None:
    if any(side % length for side, length in zip(patch.img_size, patch.patch_size, strict=True)):
        raise Inexpressible("patches don't divide the image: what is left over is cut off")


def _check_attention(block: Any, shapes: dict[str, Any]) -> None:
    if getattr(block.attn, "num_kv_heads", block.attn.num_heads) != block.attn.num_heads:
        raise Inexpressible("grouped-query attention")
    if getattr(block.attn, "gate", None) is not None:
        raise Inexpressible("gated attention")
    if ("blocks.0.gamma_1" in shapes) != ("blocks.0.gamma_2" in shapes):
        raise Inexpressible("layer scale behind the attention alone")


def _mlp(mlp: Any) -> tuple[str, int, str]:
    """Kind, width, activation."""
    kind, act = type(mlp).__name__, ACTS[type(mlp.act).__name__]
    if kind not in ("Mlp", "GluMlp", "SwiGLU") or getattr(mlp, "gate_last", False):
        raise Inexpressible(f"mlp {kind}")
    return ("mlp" if kind == "Mlp" else "swiglu"), mlp.fc2.in_features, act


def _norm(model: Any) -> tuple[str, float]:
    """Kind and eps, which all norms have to share."""
    found = {
        (type(module).__name__, module.eps)
        for name, module in model.named_modules()
        if "norm" in name.rpartition(".")[2] and not isinstance(module, nn.Identity)
    }
    if len(found) != 1:
        raise Inexpressible(f"norms of {len(found)} kinds: {sorted(found)}")
    kind, eps = found.pop()
    return NORMS[kind], eps


def _final_norm(shapes: dict[str, Any]) -> str:
    tokens, pooled = "norm.weight" in shapes, "fc_norm.weight" in shapes
    if tokens and pooled:
        raise Inexpressible("a norm before the pooling and one behind it")
    return "tokens" if tokens else "pooled" if pooled else "none"


def _qkv_bias(shapes: dict[str, Any]) -> str:
    has = {part for part in "qkv" if {f"blocks.0.attn.{part}_bias", f"blocks.0.attn.{part}_proj.bias"} & set(shapes)}
    if "blocks.0.attn.qkv.bias" in shapes or len(has) == 3:
        return "all"
    return "qv" if has else "none"


def _pool(model: Any) -> str:
    if hasattr(model, "head_dist"):
        return "class_dist"
    if model.global_pool not in POOLS:
        raise Inexpressible(f"global_pool {model.global_pool!r}")
    if getattr(model, "pool_include_prefix", False):
        raise Inexpressible("a pooling of prefix tokens too")
    if model.global_pool == "map":
        pool = model.attn_pool
        prefix = model.num_prefix_tokens and not hasattr(model, "pool_include_prefix")  # Eva pools all tokens
        if pool.num_heads != model.blocks[0].attn.num_heads or prefix:
            raise Inexpressible("an attention pool of other heads than the blocks', or over prefix tokens")
    return POOLS[model.global_pool]


def _rope(model: Any) -> dict[str, Any]:
    rope = getattr(model, "rope", None)
    if rope is None:
        return {}
    kind = type(rope).__name__
    if rope.grid_indexing != "ij" or getattr(rope, "grid_offset", 0):
        raise Inexpressible(f"{kind} counts columns first, or from an offset")
    if kind == "RotaryEmbeddingDinoV3" and rope.rotate_half and rope.normalize_coords == "separate":
        return {"rope": "dinov3", "rope_theta": rope.temperature}
    if kind == "RotaryEmbeddingCat" and not rope.rotate_half and not rope.in_pixels and rope.ref_feat_shape:
        (grid,) = set(rope.ref_feat_shape)
        return {"rope": "eva02", "rope_theta": rope.temperature, "rope_ref_grid": grid}
    raise Inexpressible(f"{kind} of other angles than DINOv3's or EVA-02's")
