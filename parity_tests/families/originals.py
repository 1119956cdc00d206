"""The originals by Meta: golden files of their repositories' own classes, and configs that their layouts hold."""

from typing import Any

from hypothesis import strategies as st

from parity_tests.families.golden import golden
from parity_tests.strategies import configs
from vit_convert.config import ViTConfig
from vit_convert.layouts import LAYOUTS

# timm's plain names: such files are taken for timm's, and whoever opens one says what they tell nothing of.
PLAIN = ("image_size", "num_heads", "norm_eps", "act", "pool", "pos_resize", "rope")

HEADS = ("num_heads",)  # of sizes that no repository builds
MASK = ("mask_token",)
IMAGE = ("image_size",)  # there is no table that would tell it
LEFT_OUT = ("mask_token", "rope_embed.periods", "local_cls_norm.")

FAMILIES = (
    golden("deit", "plain", "timm:vit", "DeiT", to="deit", asked=PLAIN),
    golden("deit", "distilled", "timm:vit", "distilled DeiT", to="deit", asked=PLAIN),
    golden(
        "deit",
        "training",
        "timm:vit",
        "DeiT, the averaged weights of a training checkpoint",
        to="deit",
        asked=PLAIN,
        output="output_model_ema",
        renamed=True,
    ),
    golden("deit", "deit3", "deit3", "DeiT III", asked=HEADS),
    golden("dino", "pretrain", "timm:vit", "DINO", to="dino", asked=PLAIN),
    golden("dino", "training", "dino", "a training checkpoint", asked=HEADS, renamed=True),
    golden("mae", "pretrain_encoder", "timm:vit", "MAE", to="mae", asked=PLAIN),
    golden("mae", "pretrain_with_decoder", "mae", "with its decoder", asked=HEADS, renamed=True),
    golden("mae", "finetuned", "timm:vit", "MAE, fine-tuned", to="mae", asked=PLAIN),
    golden("dinov2", "plain", "dinov2", "DINOv2", asked=HEADS, beside=MASK),
    golden("dinov2", "registers", "dinov2", "with registers", asked=HEADS, beside=MASK),
    golden("dinov2", "swiglu", "dinov2", "SwiGLU", asked=HEADS, beside=MASK),
    golden("dinov2", "chunked_training", "dinov2", "in chunks", asked=HEADS, renamed=True),
    golden("dinov3", "mlp", "dinov3", "DINOv3", asked=IMAGE, renamed=True),
    golden("dinov3", "swiglu", "dinov3", "SwiGLU, periods in float32", asked=IMAGE, renamed=True),
    golden("dinov3", "float32_periods", "dinov3", "periods not rounded", asked=IMAGE, renamed=True),
    golden("dinov3", "swiglu_no_qkv_bias", "dinov3", "no qkv bias, local_cls_norm", asked=IMAGE, beside=LEFT_OUT),
)


def limited(layout: str, *more: dict[str, Any]) -> st.SearchStrategy[ViTConfig]:
    """Square configs within a layout's limits, with the values of one of `more` for what depends on other fields."""
    limits = LAYOUTS[layout].limits
    options = [
        configs(**{name: st.sampled_from(allowed) for name, allowed in {**limits, **each}.items()}) for each in more
    ]
    return st.one_of(options).map(square)


def square(config: ViTConfig) -> ViTConfig:
    patch = config.patch_hw[0]
    return config.replace(patch_size=patch, image_size=patch * max(config.grid))


HELD = {
    "deit": limited(
        "deit",
        {"dist_token": (False,), "pool": ("class",)},
        {"dist_token": (True,), "pool": ("class_dist",)},
    ),
    "deit3": limited("deit3", {}),
    "dino": limited("dino", {}),
    "mae": limited(
        "mae", {"pool": ("class",), "final_norm": ("tokens",)}, {"pool": ("mean",), "final_norm": ("pooled",)}
    ),
    "dinov3": limited(
        "dinov3",
        {"num_classes": (0,), "pool": ("class",), "mlp": ("mlp",), "act": ("gelu",)},
        {"num_classes": (14, 15), "pool": ("class_mean",), "mlp": ("swiglu",), "act": ("silu",), "mlp_dim": (16, 24)},
    ),
    "dinov2": limited(
        "dinov2",
        {"num_classes": (0,), "pool": ("class",), "mlp": ("mlp",), "act": ("gelu",)},
        {"num_classes": (14, 15), "pool": ("class_mean",), "mlp": ("swiglu",), "act": ("silu",), "mlp_dim": (16, 24)},
    ),
}
