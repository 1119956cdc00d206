"""Normalisation over the last axis, as the config names it."""

from torch import nn

from vit_convert.config import ViTConfig


def make_norm(config: ViTConfig, dim: int) -> nn.Module:
    """LayerNorm (Ba et al. 2016) or RMSNorm (Zhang and Sennrich 2019): (..., dim) -> (..., dim)."""
    if config.norm == "rms":
        return nn.RMSNorm(dim, eps=config.norm_eps)
    return nn.LayerNorm(dim, eps=config.norm_eps)
