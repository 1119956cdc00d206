"""A batch's augmentation: from (seed, step) alone, each image by itself, in timm's order."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import ImageFilter, ImageOps
from torchvision.transforms import functional as torchvision

from parity_tests.compare import gap
from parity_tests.pictures import RGB, pillow
from parity_tests.tolerances import EXACT
from train import augment
from train.config import AugmentConfig, ConfigError
from train.draws import Draws, draw, step_key
from train.recipes.digits import digits

B, H, W = 4, 12, 20
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DEIT = AugmentConfig(flip=True, rand_augment_layers=1, rand_augment_prob=1, erase_prob=0.5)
DEIT3 = AugmentConfig(flip=True, three_augment=True, color_jitter=0.3, erase_prob=0.5, erase_mode="const")
BOTH = pytest.mark.parametrize("config", [DEIT, pytest.param(DEIT3, marks=pytest.mark.slow)], ids=["DeiT", "DeiT III"])
IMAGES = np.concatenate([RGB, RGB[:, ::-1]])[:, :H, :W]


@cache
def drawer(config: AugmentConfig) -> Any:
    run: dict[str, Any] = dict(drop_path=np.zeros(2), dropout=False, dtype=jnp.float64)
    return jax.jit(lambda seed, step: draw(step_key(seed, step), config, (B, H, W), **run))


@cache
def augmenter(config: AugmentConfig) -> Any:
    return jax.jit(partial(augment.apply, config=config, mean=MEAN, std=STD, dtype=jnp.float64))


def part(draws: Draws, at: slice) -> Draws:
    """The draws of a part of the batch, not mixed."""
    kept: dict[str, Any] = {"lam": jnp.ones(()), "use_cutmix": jnp.zeros((), bool), "box": draws.box}
    kept["partner"] = jnp.arange(len(range(B)[at]))
    rest = {name: leaf for name, leaf in draws._asdict().items() if name not in kept}
    return Draws(**kept, **jax.tree.map(lambda leaf: leaf[at], rest))


@BOTH
@pytest.mark.slow
def test_an_image_is_augmented_alike_in_any_batch(config: AugmentConfig):
    """Whole, and one by one: the same bits."""
    run = augmenter(config)
    for step in range(4):
        draws = drawer(config)(0, step)
        whole = np.asarray(run(IMAGES, part(draws, slice(None))))
        for i in range(B):
            np.testing.assert_array_equal(run(IMAGES[i : i + 1], part(draws, slice(i, i + 1)))[0], whole[i])


ON_TWO_DEVICES = """
import re, jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from train import augment
from train.config import AugmentConfig
from train.draws import draw, step_key

config = AugmentConfig(
    flip=True, padding=2, rand_augment_layers=2, rand_augment_interpolation="nearest", color_jitter=0.3, erase_prob=0.5
)

def augmented(images):
    run = dict(drop_path=np.zeros(1), dropout=False, dtype=jnp.float32)
    draws = draw(step_key(0, jnp.int32(3)), config, images.shape[:3], **run)
    return augment.apply(images, draws, config, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1), jnp.float32)

images = np.random.default_rng(0).integers(0, 256, (8, 16, 24, 3), dtype=np.uint8)
mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
parts = NamedSharding(mesh, PartitionSpec("data"))
compiled = jax.jit(augmented, in_shardings=parts, out_shardings=parts).lower(images).compile()
exchanged = re.findall(r"(all-gather|all-reduce|all-to-all|collective-permute)\\(", compiled.as_text())
assert not exchanged, exchanged
on_two = compiled(jax.device_put(images, parts))
assert len(on_two.addressable_shards) == 2
np.testing.assert_array_equal(on_two, jax.jit(augmented)(images))
print("the same")
"""


@pytest.mark.slow
def test_on_two_devices_each_augments_its_images_to_the_same_bits():
    """And they exchange nothing."""
    flags = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", ON_TWO_DEVICES],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr


@BOTH
def test_draws_depend_on_seed_and_step_alone(config: AugmentConfig):
    """Asked for again, and in another order, they are the same; for another seed or step they are not."""

    def draws(seed: int, step: int) -> bytes:
        leaves = jax.tree.leaves(drawer(config)(seed, step))
        plain = [
            jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf for leaf in leaves
        ]
        return b"".join(np.asarray(leaf).tobytes() for leaf in plain)

    pairs = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    first = {pair: draws(*pair) for pair in pairs}
    assert {pair: draws(*pair) for pair in reversed(pairs)} == first
    assert len(set(first.values())) == len(pairs)


def plain(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def test_the_order_is_timms():
    """Flip, 3-Augment, colour jitter, normalise, erase, on Pillow's images."""
    draws = drawer(DEIT3)(0, 5)
    ours = np.asarray(augmenter(DEIT3)(IMAGES, draws))
    for i, image in enumerate(IMAGES):
        changes = [np.asarray(leaf)[i] for leaf in (draws.flip, *draws.three_augment, *draws.jitter)]
        assert gap(ours[i], erased(pictured(image, *changes), np.asarray(draws.erase.box[i]))) < EXACT


def pictured(image: np.ndarray, flip: bool, choice: int, sigma: float, order: Any, factor: Any) -> np.ndarray:
    """What happens before normalising, by Pillow and torchvision."""
    picture: Any = ImageOps.mirror(pillow(image)) if flip else pillow(image)
    three = (
        lambda: torchvision.rgb_to_grayscale(picture, 3),
        lambda: ImageOps.solarize(picture),
        lambda: picture.filter(ImageFilter.GaussianBlur(float(sigma))),
    )
    picture = three[choice]()
    jitter: Any = (torchvision.adjust_brightness, torchvision.adjust_contrast, torchvision.adjust_saturation)
    for which in order:
        picture = jitter[which](picture, float(factor[which]))
    return np.asarray(picture)


def erased(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    x = (image / 255 - np.array(MEAN)) / np.array(STD)
    top, bottom, left, right = box
    x[top:bottom, left:right] = 0
    return x


@pytest.mark.slow
def test_every_operation_is_drawn_as_often_as_the_others():
    """Within four standard deviations; half are done, half negative, magnitudes about 9 and never above 10."""
    config, count = AugmentConfig(rand_augment_layers=2), 3000
    run: dict[str, Any] = dict(drop_path=np.zeros(1), dropout=False, dtype=jnp.float32)
    draws = draw(step_key(0, jnp.int32(0)), config, (count, 4, 4), **run).rand_augment
    assert draws is not None
    operation, applied, magnitude, negative = (np.asarray(part) for part in draws)
    often = np.bincount(operation.ravel(), minlength=15) / operation.size
    assert len(often) == 15
    assert np.abs(often - 1 / 15).max() < 4 * (1 / 15 * 14 / 15 / operation.size) ** 0.5
    for coin in (applied, negative):
        assert abs(coin.mean() - 0.5) < 4 * 0.5 / coin.size**0.5
    assert magnitude.max() == 640
    assert abs(np.median(magnitude) / 64 - 9) < 0.05
    assert abs(magnitude.std() / 64 - 0.5) < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rand_augment_prob": 1.5}, r"augment.rand_augment_prob must be in \[0, 1\], got 1.5"),
        ({"rand_augment_layers": 2, "three_augment": True}, "alternatives"),
        ({"rand_augment_magnitude": -1}, "augment.rand_augment_magnitude must be at least 0, got -1"),
        ({"rand_augment_magnitude": 31}, "augment.rand_augment_magnitude must be at most 30, got 31"),
        ({"erase_prob": 2}, r"augment.erase_prob must be in \[0, 1\], got 2"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        replace(digits(), augment=AugmentConfig(**options))
