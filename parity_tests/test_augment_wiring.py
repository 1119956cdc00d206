"""A run's batch is augmented as its config says: RandAugment, erasing and mixing, against timm's on the same draws."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests.compare import gap
from parity_tests.pictures import RGB
from parity_tests.test_rand_augment import theirs
from parity_tests.tolerances import EXACT
from train import augment
from train.augment.arguments import NAMES
from train.config import AugmentConfig
from train.draws import Draws, draw, step_key

IMAGES = np.concatenate([RGB, RGB[:, ::-1], RGB[:, :, ::-1]])
MEAN, STD = (0.3, 0.6, 0.9), (0.2, 0.25, 0.3)
FILL = (76, 153, 230)  # the mean in levels: timm's img_mean
ERASED = AugmentConfig(flip=True, erase_prob=0.7, erase_mode="const")
# nearest: its pixels are Pillow's to the bit; bicubic ones are Pillow's to a level
CONFIGS = {
    "DeiT's": AugmentConfig(flip=True, rand_augment_layers=2, rand_augment_prob=0.8),
    "AugReg's": AugmentConfig(
        flip=True, rand_augment_layers=2, rand_augment_magnitude=15, rand_augment_std=0, rand_augment_prob=1,
        rand_augment_increasing=False, rand_augment_interpolation="nearest",
    ),
}  # fmt: skip
STEPS = 6


def drawn(config: AugmentConfig, step: int) -> Draws:
    run: dict[str, Any] = dict(drop_path=np.zeros(1), dropout=False, dtype=jnp.float64)
    return draw(step_key(0, jnp.int32(step)), config, IMAGES.shape[:3], **run)


def augmented(config: AugmentConfig, draws: Draws) -> np.ndarray:
    run = jax.jit(lambda images, draws: augment.apply(images, draws, config, MEAN, STD, jnp.float64))
    return np.asarray(run(IMAGES, draws))


def normalised(images: np.ndarray) -> np.ndarray:
    return (images / 255 - np.array(MEAN)) / np.array(STD)


@pytest.mark.parametrize("recipe", CONFIGS)
def test_rand_augment_is_timms_with_the_configs_magnitude_direction_fill_and_pixels(recipe: str):
    """All operations of a layer, drawn at random, one layer after the other."""
    config = CONFIGS[recipe]
    given = config.rand_augment_increasing, config.rand_augment_interpolation
    seen = set()
    for step in range(STEPS):
        draws = drawn(config, step)
        assert draws.rand_augment is not None
        wanted = [image[:, ::-1] if flip else image for image, flip in zip(IMAGES, np.asarray(draws.flip), strict=True)]
        for layer in range(config.rand_augment_layers):
            for i, parts in enumerate(zip(*(np.asarray(part)[:, layer] for part in draws.rand_augment), strict=True)):
                number, done, magnitude, negative = parts
                if done:
                    wanted[i] = theirs(wanted[i], NAMES[number], magnitude, negative, *given, fill=FILL)
                    seen.add(NAMES[number])
        off = np.abs(augmented(config, draws) - normalised(np.stack(wanted))) * np.array(STD) * 255
        if given[1] == "nearest":
            assert off.max() < EXACT
        else:
            # a level of a warp may become many where Equalize or Posterize follows: most pixels have none
            assert np.median(off) < EXACT
            assert np.mean(off > 2) < 0.05
    assert len(seen) >= 12


def test_what_is_mixed_is_what_was_erased():
    """A partner comes as it is itself, erased where it is; timm mixes after its transforms."""
    mixed = replace(ERASED, mixup_alpha=0.8, cutmix_alpha=1.0)
    alone, cut = set(), set()
    for step in range(STEPS):
        draws = drawn(mixed, step)
        x = augmented(ERASED, draws)
        partner, lam, use_cutmix = (np.asarray(part) for part in (draws.partner, draws.lam, draws.use_cutmix))
        if use_cutmix:
            top, bottom, left, right = np.asarray(draws.box)
            wanted = x.copy()
            wanted[:, top:bottom, left:right] = x[partner][:, top:bottom, left:right]
        else:
            wanted = lam * x + (1 - lam) * x[partner]
        assert gap(augmented(mixed, draws), wanted) < EXACT
        (cut if use_cutmix else alone).add(step)
    assert alone
    assert cut
