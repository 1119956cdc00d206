"""Normalisation over the last axis, as the config names it."""

from typing import Any

from flax import nnx

from vit_convert.config import ViTConfig


def make_norm(config: ViTConfig, dim: int, *, rngs: nnx.Rngs, dtype: Any, param_dtype: Any) -> nnx.Module:
    """LayerNorm (Ba et al. 2016) or RMSNorm (Zhang and Sennrich 2019): (..., dim) -> (..., dim)."""
    # mirror: two-pass variance, as torch; the fast one cancels where the mean is large.
    options: dict[str, Any] = dict(use_fast_variance=False, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    if config.norm == "rms":
        return nnx.RMSNorm(dim, epsilon=config.norm_eps, **options)
    return nnx.LayerNorm(dim, epsilon=config.norm_eps, **options)
