"""What the golden cases of Flax models share: random weights, float64 runs, the names of published files."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from parity_tests.golden.case import Arrays, images, key, model_input, random_values
from parity_tests.golden.stand_ins import stand_in

Size = tuple[int, int]
Flat = dict[str, npt.NDArray[Any]]  # '/'-joined path -> array
Outputs = Callable[[Flat, Any, Size], Mapping[str, Any]]  # (float64 parameters, float64 images NHWC, grid) -> outputs
NATIVE, OTHER, LARGER = (20, 20), (12, 28), (28, 28)  # pixels; patches of 4
GRID = (5, 5)
OUTPUT = {"output": "the model's output: logits (batch, classes), or pooled features (batch, dim) without a head"}
TABLE = {"pos_embed": "the position table that the family's own code made for this size, class row first"}


def prepare(*absent: str) -> Any:
    """JAX in float64 on the CPU, Flax imported, and stand-ins for TensorFlow and the modules `absent`."""
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    importlib.import_module("flax.training.checkpoints")  # asks for TensorFlow's spec, which a stand-in has none of
    stand_in("tensorflow.io.gfile", *absent)
    return jax


def filled(init: Callable[..., Any], *inputs: Any, seed: int, **options: Any) -> Flat:
    """Random float32 parameters of the shapes that a module's `init` makes."""
    jax = importlib.import_module("jax")
    return filled_like(jax.eval_shape(lambda: init(jax.random.key(0), *inputs, **options))["params"], seed)


def filled_like(tree: Any, seed: int) -> Flat:
    """Random float32 parameters of the shapes in `tree`."""
    rng = np.random.default_rng(seed)
    shapes = {name: tuple(leaf.shape) for name, leaf in flatten(tree).items()}
    return {name: random_values(name, shape, rng) for name, shape in shapes.items()}


def flatten(tree: Any) -> dict[str, Any]:
    return importlib.import_module("flax.traverse_util").flatten_dict(tree, sep="/")


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    return importlib.import_module("flax.traverse_util").unflatten_dict(dict(flat), sep="/")


def double(flat: Mapping[str, Any]) -> Flat:
    return {name: np.asarray(value, np.float64) for name, value in flat.items()}


def arrays_by_size(parameters: Flat, sizes: tuple[Size, ...], outputs: Outputs) -> Arrays:
    """Images, and what `outputs` gives for them, by size."""
    arrays: Arrays = {}
    for seed, size in enumerate(sizes):
        pixels = images(seed, size)
        found = outputs(double(parameters), model_input(pixels), (size[0] // 4, size[1] // 4))
        arrays[key("images", size)] = pixels
        arrays |= {key(name, size): np.asarray(value) for name, value in found.items()}
    assert all(value.dtype in (np.float64, np.uint8) for value in arrays.values())
    return arrays


def config(**others: Any) -> dict[str, Any]:
    """What is common to the cases, as ViTConfig fields."""
    size = dict(image_size=20, patch_size=4, dim=20, depth=2, num_heads=5, mlp_dim=28, num_classes=11)
    return size | dict(norm_eps=1e-6, act="gelu_tanh", pos_resize="bilinear_corners") | others


def published(flat: Mapping[str, Any]) -> Flat:
    """The same arrays under the names of files that were published before Flax numbered modules by class.

    Raises:
        AssertionError: Flax's own convert_pre_linen doesn't give the present names back.
    """
    old = {"MultiHeadDotProductAttention_0": "MultiHeadDotProductAttention_1", "LayerNorm_1": "LayerNorm_2"}
    old["MlpBlock_0"] = "MlpBlock_3"
    renamed = {"/".join(old.get(part, part) for part in name.split("/")): value for name, value in flat.items()}
    back = importlib.import_module("flax.training.checkpoints").convert_pre_linen(unflatten(renamed))
    assert {name: value.tobytes() for name, value in flatten(back).items()} == {n: v.tobytes() for n, v in flat.items()}
    return renamed


def npz_saver(flat: Mapping[str, Any]) -> Callable[[Path], None]:
    return lambda path: np.savez(path, allow_pickle=False, **{name: np.asarray(value) for name, value in flat.items()})
