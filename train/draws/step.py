"""The draws of a step: `vit_torch/training` names the same ones.

Every draw is a function of (seed, step) alone, so a run that stops goes on as if it had not. All are
made in 32 bits, so precision changes nothing about them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from train.config import AugmentConfig
from train.draws.images import (
    EraseDraws,
    JitterDraws,
    RandAugmentDraws,
    ThreeAugmentDraws,
    draw_erase,
    draw_jitter,
    draw_rand_augment,
    draw_three_augment,
)

# fold_in(key(seed), step) is the step's key; this is a number that no step reaches.
INIT = 2**32 - 1


class Draws(NamedTuple):
    """All the randomness of one step. MixUp with lam = 1 is no mixing; `box` counts only with use_cutmix."""

    corner: Array  # (B, 2) integers in 0..2 * padding: where the crop begins in the padded image
    flip: Array  # (B,) booleans: mirror left and right
    use_cutmix: Array  # () boolean: CutMix for this batch, else MixUp
    lam: Array  # () the share of an image that stays its own, in 0..1
    box: Array  # (4,) top, bottom, left, right of the pasted rectangle; ends excluded
    partner: Array  # (B,) a random permutation: what each image is mixed with; timm's is the batch reversed
    drop_path: Array | None  # (depth, 2, B): 0 or 1 / keep for the two branches of each block
    dropout: Array | None  # a key
    rand_augment: RandAugmentDraws | None = None
    three_augment: ThreeAugmentDraws | None = None
    jitter: JitterDraws | None = None
    erase: EraseDraws | None = None


def init_key(seed: int) -> Array:
    """The key of the initial weights."""
    return jax.random.fold_in(jax.random.key(seed), INIT)


def step_key(seed: int, step: Array) -> Array:
    """The key of one step's draws."""
    return jax.random.fold_in(jax.random.key(seed), step)


def draw(
    key: Array,
    config: AugmentConfig,
    shape: tuple[int, int, int],
    *,
    drop_path: np.ndarray,
    dropout: bool,
    dtype: DTypeLike,
) -> Draws:
    """One step's draws for a batch of shape (B, H, W), multipliers in dtype.

    Args:
        drop_path: (depth,) the rate of each block.
    """
    B, H, W = shape
    keys = jax.random.split(key, 9)
    use_cutmix, lam = _mixing(keys[:3], config)
    return Draws(
        corner=jax.random.randint(keys[3], (B, 2), 0, 2 * config.padding + 1, jnp.int32),
        flip=jax.random.bernoulli(keys[4], jnp.float32(0.5 if config.flip else 0.0), (B,)),
        use_cutmix=use_cutmix,
        lam=lam.astype(dtype),
        box=_box(keys[5], lam, H, W),
        partner=jax.random.permutation(keys[6], jnp.arange(B, dtype=jnp.int32)),
        drop_path=_drop_path(keys[7], drop_path, B, dtype) if drop_path.any() else None,
        dropout=keys[8] if dropout else None,
        rand_augment=draw_rand_augment(key, config, B),
        three_augment=draw_three_augment(key, config, B),
        jitter=draw_jitter(key, config, B),
        erase=draw_erase(key, config, shape),
    )


def _mixing(keys: Array, config: AugmentConfig) -> tuple[Array, Array]:
    """(use_cutmix, lam) of one batch; a batch that is not mixed has lam = 1."""
    mixup, cutmix = config.mixup_alpha, config.cutmix_alpha
    if not mixup and not cutmix:
        return jnp.zeros((), bool), jnp.ones((), jnp.float32)
    share = config.cutmix_share if mixup and cutmix else float(cutmix > 0)
    use_cutmix = jax.random.bernoulli(keys[0], jnp.float32(share))
    alpha = jnp.where(use_cutmix, cutmix, mixup).astype(jnp.float32)
    lam = jax.random.beta(keys[1], alpha, alpha, dtype=jnp.float32)
    mixed = jax.random.bernoulli(keys[2], jnp.float32(config.mix_share))
    return use_cutmix & mixed, jnp.where(mixed, lam, 1.0)


def _box(key: Array, lam: Array, H: int, W: int) -> Array:
    """CutMix's rectangle (Yun et al. 2019, eq. 2): area 1 - lam about a uniform centre, cut off at the border.

    An odd side stays whole; timm's rand_bbox goes side // 2 either way from the centre, one pixel less.
    """
    size = jnp.array([H, W], jnp.int32)
    sides = jnp.floor(size * jnp.sqrt(1 - lam)).astype(jnp.int32)
    centre = jax.random.randint(key, (2,), 0, size, jnp.int32)
    begin, end = jnp.maximum(centre - sides // 2, 0), jnp.minimum(centre + (sides + 1) // 2, size)
    return jnp.stack([begin[0], end[0], begin[1], end[1]])


def block_rates(rate: float, schedule: str, depth: int) -> np.ndarray:
    """(depth,) the rate of stochastic depth of each block: linear as in Huang et al. 2016, section 3, or constant as in
    DeiT III (facebookresearch/deit, models_v2.py, `dpr`)."""
    return np.full(depth, rate) if schedule == "constant" else np.linspace(0.0, rate, depth)


def _drop_path(key: Array, rates: np.ndarray, batch: int, dtype: DTypeLike) -> Array:
    """Stochastic depth (Huang et al. 2016, eq. 4, here divided by keep at training as in timm/layers/drop.py)."""
    keep = 1 - rates[:, None, None]
    kept = jax.random.bernoulli(key, jnp.asarray(keep, jnp.float32), (len(rates), 2, batch))
    return kept.astype(dtype) / jnp.asarray(keep, dtype)
