"""What hypothesis draws: small valid configs over every field, and random tensors for them."""

from math import prod
from typing import Any, get_args, get_type_hints

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from vit_convert.config import ViTConfig
from vit_convert.hub import hub_shapes
from vit_convert.preprocess import Preprocess

BATCH = 2
DTYPES = (np.dtype("f4"), np.dtype("f2"), np.dtype(ml_dtypes.bfloat16), np.dtype("f8"))


@st.composite
def configs(draw: st.DrawFn, **fixed: st.SearchStrategy[Any]) -> ViTConfig:
    """A valid config: rectangular images and patches, depth 1 to 3, and no two dimensions alike (nor 2, which is
    left to the batch), so that no transpose and no mixed-up axis hides. `fixed` replaces the strategy of a field:
    act=st.just("gelu")."""

    def pick(name: str, *values: Any) -> Any:
        return draw(fixed.get(name, st.sampled_from(values)))

    def literal(name: str, *without: Any) -> Any:
        return pick(name, *(value for value in get_args(get_type_hints(ViTConfig)[name]) if value not in without))

    grid, patch = draw(st.sampled_from([(6, 7), (7, 6)])), pick("patch_size", (9, 11), (11, 9))
    class_token = pick("class_token", True, True, False)
    dist_token = pick("dist_token", False, False, True) and class_token
    pools = ["mean", "map", *(["class", "class_mean"] * class_token), *(["class_dist"] * dist_token)]
    pool = pick("pool", *pools)
    num_heads, head_dim = pick("num_heads", 4, 5), draw(st.sampled_from([8, 12]))
    bools = ("patch_norm", "pre_norm", "qk_norm", "attn_norm", "mlp_norm", "layer_scale")
    biases = ("patch_bias", "proj_bias", "mlp_bias", "head_bias")
    rope = literal("rope")
    rotary: dict[str, Any] = {} if rope == "none" else {"rope_theta": pick("rope_theta", 100.0, 10_000.0)}
    if rope == "eva02":
        rotary["rope_ref_grid"] = pick("rope_ref_grid", 16, 37)
    if rope == "dinov3":
        rotary["rope_round_periods"] = literal("rope_round_periods")
    config = ViTConfig(
        image_size=(grid[0] * patch[0], grid[1] * patch[1]),
        patch_size=patch,
        in_channels=pick("in_channels", 1, 3),
        dim=num_heads * head_dim,
        depth=pick("depth", 1, 2, 3),
        num_heads=num_heads,
        mlp_dim=pick("mlp_dim", 17, 29, 34),
        num_classes=pick("num_classes", 0, 14, 15),
        class_token=class_token,
        dist_token=dist_token,
        num_registers=pick("num_registers", 0, 0, 10),
        pos_embed=literal("pos_embed"),
        pos_prefix=literal("pos_prefix"),
        pos_resize=literal("pos_resize"),
        rope=rope,
        **rotary,
        norm=literal("norm"),
        norm_eps=pick("norm_eps", 1e-6, 1e-5, 1e-12),
        final_norm=literal("final_norm", *["pooled"] * (pool == "class_mean")),
        act=literal("act"),
        mlp=literal("mlp"),
        qkv_bias=literal("qkv_bias"),
        pool=pool,
        pre_logits=0 if pool == "class_dist" else pick("pre_logits", 0, 13),
        **{name: pick(name, True, False) for name in (*bools, *biases)},
    )
    assert_distinct(config)
    return config


def assert_distinct(config: ViTConfig) -> None:
    """No two of a model's dimensions are alike; those that it doesn't have are 0."""
    sizes = (*config.grid, *config.patch_hw, config.in_channels, config.num_heads, config.head_dim, config.dim)
    sizes += (config.mlp_dim, config.num_classes, config.num_registers, config.pre_logits)
    there = [BATCH, *filter(None, sizes)]
    assert len(set(there)) == len(there), there


def random_tensors(config: ViTConfig, seed: int = 0, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """Hub name -> random tensor of a model of this config.

    Matrices are scaled by their inputs: softmaxes of random weights are steps otherwise, which amplify rounding.
    """
    rng = np.random.default_rng(seed)
    return {
        name: (rng.standard_normal(shape) * _scale(name, shape)).astype(dtype)
        for name, shape in hub_shapes(config).items()
    }


def _scale(name: str, shape: tuple[int, ...]) -> float:
    return prod(shape[1:]) ** -0.5 if name.endswith(".weight") and len(shape) > 1 else 1.0


@st.composite
def preprocesses(draw: st.DrawFn, channels: int = 3, crop: tuple[int, int] | None = None) -> Preprocess:
    """Valid preprocessing; `crop` fixes the size."""
    crop = crop or draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    more = draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))
    numbers = st.lists(st.floats(0.1, 1, allow_nan=False), min_size=channels, max_size=channels).map(tuple)
    return Preprocess(
        resize=(crop[0] + more[0], crop[1] + more[1]),
        crop=crop,
        mode=draw(st.sampled_from(["shortest", "squash"])),
        interpolation=draw(st.sampled_from(["bilinear", "bicubic"])),
        antialias=draw(st.booleans()),
        rounding=draw(st.sampled_from(["nearest", "down", "none"])),
        crop_offset=draw(st.sampled_from(["round", "floor"])),
        alpha=draw(st.sampled_from(["drop", "white"])),
        mean=draw(numbers),
        std=draw(numbers),
    )
