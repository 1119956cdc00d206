"""3-Augment of DeiT III (Touvron et al. 2022, section 3): an image turns grey, solarized or blurred.

Reference: augment.py of facebookresearch/deit, which equals this bit for bit.
"""

import jax.numpy as jnp
from jax import Array

from train.augment.colour import gaussian_blur, grey
from train.draws import ThreeAugmentDraws

THRESHOLD = 128  # of PIL.ImageOps.solarize


def three_augment(images: Array, draws: ThreeAugmentDraws) -> Array:
    """uint8 (B, H, W, C) -> same.

    Raises:
        ValueError: neither one channel nor three.
    """
    solarized = jnp.where(images < THRESHOLD, images, 255 - images)
    choice = draws.choice[:, None, None, None]
    changed = jnp.where(choice == 0, grey(images), solarized)
    return jnp.where(choice == 2, gaussian_blur(images, draws.sigma), changed)
