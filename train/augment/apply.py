"""What happens to a batch of images, in timm's order."""

from jax import Array
from jax.typing import DTypeLike

from train.augment.colour import jitter
from train.augment.erase import erase
from train.augment.geometry import flip, shift
from train.augment.mix import mix_images
from train.augment.normalise import normalise
from train.augment.rand_augment import rand_augment
from train.augment.three_augment import three_augment
from train.config import AugmentConfig
from train.draws import Draws


def apply(
    images: Array,
    draws: Draws,
    config: AugmentConfig,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: DTypeLike,
) -> Array:
    """uint8 (B, H, W, C) -> what the model is given, in dtype. No image but its mixing partner touches another.

    Raises:
        ValueError: an augmentation of colours, and neither one channel nor three.
    """
    x = shift(images, draws.corner, config.padding) if config.padding else images
    x = flip(x, draws.flip)
    if draws.rand_augment is not None:
        x = rand_augment(
            x,
            draws.rand_augment,
            limit=config.rand_augment_limit,
            increasing=config.rand_augment_increasing,
            fill=tuple(min(255, round(255 * part)) for part in mean),
            interpolation=config.rand_augment_interpolation,
        )
    if draws.three_augment is not None:
        x = three_augment(x, draws.three_augment)
    if draws.jitter is not None:
        x = jitter(x, draws.jitter)
    levels, x = x, normalise(x, mean, std, dtype)
    if draws.erase is not None:
        x = erase(x, draws.erase)
    if not (config.mixup_alpha or config.cutmix_alpha):
        return x
    # Partners lie on other devices, so each is sent the whole batch: a byte a pixel, unless noise was put in.
    partners = normalise(levels[draws.partner], mean, std, dtype) if draws.erase is None else x[draws.partner]
    return mix_images(x, partners, draws)
