"""The one-way changes say what they did, in any order of tensors, and keep the function where they promise it."""

import random
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import vit_torch
from parity_tests.compare import gap
from parity_tests.pairs import images_for, run_torch
from parity_tests.strategies import random_tensors
from parity_tests.tolerances import FORWARD
from vit_convert import steps
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.hub import hub_shapes
from vit_convert.steps import Step

BASE: dict[str, Any] = dict(image_size=(6, 9), patch_size=(2, 3), dim=24, depth=2, num_heads=3, mlp_dim=40)
CONFIG = ViTConfig(**BASE, num_classes=5)
REGISTERS = CONFIG.replace(num_registers=4)
# A step, the config that it is for, and the fields after it.
SAME_FUNCTION: dict[str, tuple[Callable[[ViTConfig], Step | None], ViTConfig, dict[str, Any]]] = {
    "fold class": (steps.fold_prefix_positions, CONFIG, {"pos_prefix": "none"}),
    "fold class and distillation": (
        steps.fold_prefix_positions,
        CONFIG.replace(dist_token=True, pool="class_dist"),
        {"pos_prefix": "none"},
    ),
    "fold class of registers": (steps.fold_prefix_positions, REGISTERS, {"pos_prefix": "none"}),
    "fold all": (steps.fold_prefix_positions, REGISTERS.replace(pos_prefix="all"), {"pos_prefix": "none"}),
    "zero class row": (steps.zero_prefix_positions, CONFIG.replace(pos_prefix="none"), {"pos_prefix": "class"}),
    "zero class row of registers": (
        steps.zero_prefix_positions,
        REGISTERS.replace(pos_prefix="none"),
        {"pos_prefix": "class"},
    ),
    "zero k bias": (steps.zero_key_bias, CONFIG.replace(qkv_bias="qv"), {"qkv_bias": "all"}),
    "zero qkv bias": (steps.zero_qkv_bias, CONFIG.replace(qkv_bias="none"), {"qkv_bias": "all"}),
    "zero head bias": (steps.zero_head_bias, CONFIG.replace(head_bias=False), {"head_bias": True}),
    "zero patch bias": (steps.zero_patch_bias, CONFIG.replace(patch_bias=False), {"patch_bias": True}),
    "zero mean in the head": (steps.zero_mean_head, CONFIG, {"pool": "class_mean"}),
}


def applied(step: Step, tensors: dict[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    """The step's tensors, from a stream in random order."""
    stream = list(tensors.items())
    random.Random(seed).shuffle(stream)
    found = list(step.apply(stream))
    assert len({name for name, _ in found}) == len(found)
    return dict(found)


def output(config: ViTConfig, tensors: dict[str, np.ndarray]) -> np.ndarray:
    model = vit_torch.ViT(config).double()
    model.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()})
    return run_torch(model, images_for(config))["output"]


@pytest.mark.parametrize("case", SAME_FUNCTION)
def test_a_step_that_promises_the_same_function_keeps_it(case):
    make, config, fields = SAME_FUNCTION[case]
    step = make(config)
    assert step is not None
    assert step.said.endswith("the same function")
    assert step.config == config.replace(**fields)
    tensors = random_tensors(config, dtype=np.float64)
    changed = applied(step, tensors)
    assert {name: array.shape for name, array in changed.items()} == hub_shapes(step.config)
    assert gap(output(step.config, changed), output(config, tensors)) < FORWARD


@pytest.mark.parametrize("case", SAME_FUNCTION)
@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)], ids=str)
def test_dtypes_after_a_step_are_those_that_it_says(case, dtype):
    make, config, _ = SAME_FUNCTION[case]
    step = make(config)
    assert step is not None
    tensors = random_tensors(config, dtype=dtype)
    said = step.dtypes({name: array.dtype for name, array in tensors.items()})
    assert said == {name: array.dtype for name, array in applied(step, tensors).items()}
    assert set(said.values()) == {dtype}


@pytest.mark.parametrize("case", SAME_FUNCTION)
def test_a_step_that_has_nothing_to_do_is_none(case):
    make, config, fields = SAME_FUNCTION[case]
    assert make(config.replace(**fields)) is None


@pytest.mark.parametrize("pre_logits", [0, 13])
def test_a_dropped_head_is_gone_and_the_rest_is_untouched(pre_logits):
    config = CONFIG.replace(pre_logits=pre_logits)
    tensors = random_tensors(config)
    step = steps.replace_head(config, 0)
    changed = applied(step, tensors)
    assert step.config == config.replace(num_classes=0, pre_logits=0)
    gone = [name for name in tensors if name not in changed]
    assert gone == [name for name in tensors if name.startswith(("head.", "pre_logits."))]
    assert step.said == f"left out {', '.join(gone)}"
    assert all(changed[name] is tensors[name] for name in changed)


def test_a_new_head_is_zeros_in_the_model_s_dtype():
    tensors = random_tensors(CONFIG.replace(head_bias=False), dtype=ml_dtypes.bfloat16)
    step = steps.replace_head(CONFIG.replace(head_bias=False), 7)
    changed = applied(step, tensors)
    assert changed["head.weight"].shape == (7, 24)
    assert changed["head.bias"].shape == (7,)
    assert not changed["head.weight"].any()
    assert changed["head.weight"].dtype == step.dtypes({n: a.dtype for n, a in tensors.items()})["head.weight"]
    assert changed["head.weight"].dtype == ml_dtypes.bfloat16
    assert "a new head of 7 classes, of zeros: it has to be trained" in step.said


def test_two_heads_are_dropped_kept_or_replaced_together():
    config = CONFIG.replace(dist_token=True, pool="class_dist")
    assert steps.replace_head(config, 0).config.num_classes == 0
    assert steps.replace_head(config, 5).said == ""
    step = steps.replace_head(config, 7)
    assert "two new heads of 7 classes, of zeros: they have to be trained" in step.said
    changed = applied(step, {name: np.ones(shape, np.float32) for name, shape in hub_shapes(config).items()})
    assert {name: array.shape for name, array in changed.items()} == hub_shapes(step.config)
    heads = {name: array for name, array in changed.items() if name.startswith("head")}
    assert sorted(heads) == ["head.bias", "head.weight", "head_dist.bias", "head_dist.weight"]
    assert not any(array.any() for array in heads.values())


@pytest.mark.parametrize("stored", ["float32", "float64", "bfloat16"])
def test_a_cast_makes_no_finite_value_infinite(stored):
    step = steps.cast(CONFIG, np.dtype("float16"))
    fits = np.array([65504 if stored != "bfloat16" else 65280, np.inf, np.nan, 1e-30], stored)
    ((_, rounded),) = step.apply([("norm.weight", fits)])
    assert np.array_equal(rounded, fits.astype(np.float64).astype(np.float16), equal_nan=True)
    with pytest.raises(CheckpointError, match=r"norm.weight: float16 holds values up to 6.55e\+04"):
        list(step.apply([("norm.weight", np.array([1e5], stored))]))


@pytest.mark.parametrize(
    ("stored", "dtype", "fits", "larger"),
    [
        # Beyond half way from bfloat16's largest value to the next that it would have.
        ("float32", "bfloat16", 3.39e38, 3.4e38),
        ("float64", "bfloat16", 3.39e38, 1e300),
        ("float64", "float32", 3.4e38, 1e39),
    ],
)
def test_a_cast_to_any_dtype_makes_no_finite_value_infinite(stored, dtype, fits, larger):
    step = steps.cast(CONFIG, np.dtype(dtype))
    ((_, rounded),) = step.apply([("norm.weight", np.array([[fits], [-np.inf]], stored))])
    assert np.isfinite(rounded).tolist() == [[True], [False]]
    with pytest.raises(
        CheckpointError, match=rf"norm.weight: {dtype} holds .*e\+38, it has larger .*; leave the dtype"
    ):
        list(step.apply([("norm.weight", np.array([[np.inf], [-larger]], stored))]))


def test_a_cast_rounds_to_nearest_even_and_leaves_integers_alone():
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-9)], np.float32)
    step = steps.cast(CONFIG, np.dtype(ml_dtypes.bfloat16))
    found = applied(step, {"a": values, "b": np.arange(3)})
    assert found["a"].astype(np.float32).tolist() == [1.0, 1.0, 1 + 2**-6, -1.0]
    assert found["b"].dtype == np.int64
    assert step.dtypes({"a": values.dtype, "b": np.dtype(np.int64)}) == {"a": ml_dtypes.bfloat16, "b": np.int64}
