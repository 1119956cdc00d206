"""RandAugment is timm's, operation by operation, on the same draws and on photographs and digits."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import auto_augment as timm

from parity_tests.pictures import GREY, RGB, pillow
from parity_tests.tolerances import WARP
from train.augment.arguments import NAMES, NUMBER, WARPS
from train.augment.geometry import Interpolation
from train.augment.lookup import count_by_adding, count_by_comparing
from train.augment.rand_augment import rand_augment
from train.draws import RandAugmentDraws
from train.draws.images import LEVEL

LIMITS = {True: 10, False: 15}  # of the magnitude, increasing or not: AugReg's is the largest of a recipe
FILL = {3: (124, 116, 104), 1: (124,)}
METHODS: dict[Interpolation, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
MAGNITUDES = {increasing: st.integers(0, limit * LEVEL) for increasing, limit in LIMITS.items()}
NUDGE = 1e-5  # of a magnitude: moves no place by more than a millionth of a pixel, no value by a tolerance
Pixels = npt.NDArray[np.uint8]


@cache
def augmenter(increasing: bool, channels: int, interpolation: Interpolation) -> Callable[..., jax.Array]:
    limit = LIMITS[increasing]
    options: dict[str, Any] = dict(limit=limit, increasing=increasing, fill=FILL[channels], interpolation=interpolation)
    return jax.jit(partial(rand_augment, **options))


def one(name: str, magnitude: int, negative: bool, count: int, applied: bool = True) -> RandAugmentDraws:
    """The same single operation for `count` images."""
    shape = count, 1
    return RandAugmentDraws(
        jnp.full(shape, NUMBER[name]),
        jnp.full(shape, applied),
        jnp.full(shape, magnitude),
        jnp.full(shape, negative),
    )


def theirs(
    image: Any,
    name: str,
    magnitude: float,
    negative: bool,
    increasing: bool,
    method: Interpolation,
    fill: int | tuple[int, ...] | None = None,
) -> Any:
    """timm's operation with its own arguments for that magnitude and sign."""
    fill = FILL[image.shape[-1]] if fill is None else fill
    listed = timm._RAND_INCREASING_TRANSFORMS if increasing else timm._RAND_TRANSFORMS
    level: Any = magnitude / LEVEL
    hparams = {"img_mean": fill, "interpolation": METHODS[method], "magnitude_max": LIMITS[increasing]}
    op = timm.AugmentOp(listed[NUMBER[name]], prob=1.0, magnitude=level, hparams=hparams)
    if op.level_fn is not None and name == "Posterize" and op.level_fn(op.magnitude, {}) == (0,):
        return np.zeros_like(image)  # as Pillow did before 13, which refuses: timm stops there
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "_randomly_negate", lambda value: -value if negative else value)
        out = np.asarray(op(pillow(image)))
    return out.reshape(image.shape)


def same(images: Pixels, name: str, magnitude: int, negative: bool, increasing: bool) -> bool:
    """Whether ours is timm's, with the nearest pixel in warps."""
    ours = augmenter(increasing, images.shape[-1], "nearest")(images, one(name, magnitude, negative, len(images)))
    wanted = [theirs(image, name, magnitude, negative, increasing, "nearest") for image in images]
    return np.array_equal(ours, wanted)


def test_the_operations_are_timms_in_its_order():
    assert list(NAMES) == timm._RAND_TRANSFORMS


@pytest.mark.parametrize("images", [RGB, GREY], ids=["photographs", "digits"])
@pytest.mark.parametrize("increasing", [True, False])
@settings(max_examples=40)
@given(data=st.data(), name=st.sampled_from(NAMES), negative=st.booleans())
def test_every_operation_is_timms_bit_for_bit(images, increasing, data, name, negative):
    """Warps take the nearest pixel here."""
    assert same(images, name, data.draw(MAGNITUDES[increasing]), negative, increasing)


@pytest.mark.parametrize("increasing", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_every_operation_at_whole_magnitudes(increasing, name):
    for magnitude in sorted({0, 5, 9, 10, LIMITS[increasing]}):
        for negative in (True, False):
            assert same(RGB, name, magnitude * LEVEL, negative, increasing)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@settings(max_examples=25)
@given(name=st.sampled_from(WARPS), magnitude=MAGNITUDES[True], negative=st.booleans())
@example(name="ShearX", magnitude=256, negative=True)  # 1.5 - 0.12 * 12.5: a place on the very edge
def test_interpolated_warps_are_timms_cut_to_a_level(method, name, magnitude, negative):
    """Pillow's own values before it cuts them, from its images of floats, say which level ours may be. On the very
    edge its float64 rounds to inside or outside by chance: either is right there."""
    ours = augmenter(True, 3, method)(RGB, one(name, magnitude, negative, len(RGB)))
    beyond = [off(np.asarray(ours), name, magnitude + nudge, negative, method) for nudge in (-NUDGE, 0, NUDGE)]
    assert float(np.min(beyond, axis=0).max(initial=0)) <= WARP


def off(ours: Pixels, name: str, magnitude: float, negative: bool, method: Interpolation) -> npt.NDArray[np.float64]:
    """How far each value is from what timm's, cut, may be: that lies at most 1 below it, and not above."""
    values = np.stack([uncut(image, name, magnitude, negative, method) for image in RGB])
    values = np.clip(values.astype(np.float64), 0, 255)
    return np.maximum(ours - values, values - ours - 1)


def uncut(image: Pixels, name: str, magnitude: float, negative: bool, method: Interpolation) -> npt.NDArray[np.float32]:
    """timm's operation on each channel as an image of floats."""
    channels = [
        theirs(image[..., i].astype(np.float32), name, magnitude, negative, True, method, FILL[3][i]) for i in range(3)
    ]
    return np.stack(channels, -1)


@pytest.mark.parametrize("count", [count_by_adding, count_by_comparing])
def test_levels_are_counted(count):
    found = np.asarray(jax.jit(count)(RGB))
    for b, c in np.ndindex(2, 3):
        np.testing.assert_array_equal(found[b, :, c], np.bincount(RGB[b, :, :, c].ravel(), minlength=256))


@settings(max_examples=10)
@given(data=st.data())
def test_layers_follow_one_another_each_image_its_own(data):
    """Three operations for each of two images, some of them left out."""
    layer = st.tuples(st.sampled_from(NAMES), MAGNITUDES[True], st.booleans(), st.booleans())
    layers = [data.draw(layer) for _ in range(6)]
    steps = [one(name, magnitude, negative, 1, applied) for name, magnitude, negative, applied in layers]
    rows = [jax.tree.map(lambda *parts: jnp.concatenate(parts, 1), *steps[i : i + 3]) for i in (0, 3)]
    ours = augmenter(True, 3, "nearest")(RGB, jax.tree.map(lambda *parts: jnp.concatenate(parts), *rows))
    for i, image in enumerate(RGB):
        for name, magnitude, negative, applied in layers[3 * i : 3 * i + 3]:
            image = theirs(image, name, magnitude, negative, True, "nearest") if applied else image
        np.testing.assert_array_equal(ours[i], image)
