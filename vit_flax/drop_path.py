"""Stochastic depth (Huang et al. 2016), with masks that the train step draws."""

from jax import Array


def drop_path(x: Array, mask: Array | None) -> Array:
    """Scales each image's branch: (B, T, D), (B,) -> (B, T, D).

    The mask holds 0 where the branch is dropped and 1 / keep elsewhere, so that its mean is 1.
    """
    if mask is None:
        return x
    return x * mask.astype(x.dtype)[:, None, None]
