"""MixUp, CutMix, and the labels that belong to them.

Shapes: B images, (H, W) their size, C channels, K classes. Formulas: `vit_torch/training`.

Two things differ from timm's Mixup: the partners are a random permutation, where timm's are the batch reversed; and
CutMix's box keeps an odd side whole, where timm's cuts side // 2 on either side of the centre, one pixel less.
"""

import jax
import jax.numpy as jnp
from jax import Array

from train.draws import Draws


def mix_images(x: Array, partners: Array, draws: Draws) -> Array:
    """MixUp or CutMix of images and their partners x[draws.partner], as the draws say: (B, H, W, C) twice -> same.

    Both weigh an image against its partner: MixUp everywhere by lam, CutMix by 1 outside the box and 0 inside.
    """
    top, bottom, left, right = draws.box
    rows, columns = jnp.arange(x.shape[1])[:, None, None], jnp.arange(x.shape[2])[:, None]
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    own = jnp.where(draws.use_cutmix, 1 - inside.astype(x.dtype), draws.lam.astype(x.dtype))
    return own * x + (1 - own) * partners


def mixed_share(draws: Draws, H: int, W: int) -> Array:
    """The share of its own label that an image keeps: lam, and for CutMix the area that stayed."""
    top, bottom, left, right = draws.box
    area = ((bottom - top) * (right - left)).astype(draws.lam.dtype)
    return jnp.where(draws.use_cutmix, 1 - area / (H * W), draws.lam)


def targets(labels: Array, draws: Draws, size: tuple[int, int], num_classes: int, smoothing: float) -> Array:
    """Labels (B,) -> smoothed and mixed (B, K), in the dtype of the draws."""
    dtype = draws.lam.dtype
    smooth = (1 - smoothing) * jax.nn.one_hot(labels, num_classes, dtype=dtype) + smoothing / num_classes
    lam = mixed_share(draws, *size)
    return lam * smooth + (1 - lam) * smooth[draws.partner]
