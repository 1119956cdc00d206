"""Positions that a program computes for images of any size are those that the models take from NumPy, to float32."""

from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parity_tests.compare import gap
from parity_tests.tolerances import FLOAT32_CHAIN
from vit_convert import positions
from vit_convert.config import PosResize, ViTConfig
from vit_torch import symbolic

LIKE = torch.zeros(())
GRIDS = st.tuples(st.integers(1, 20), st.integers(1, 20))
SMALL: dict[str, Any] = dict(image_size=8, patch_size=4, dim=16, depth=1, num_heads=1, mlp_dim=8, num_classes=2)


@pytest.mark.parametrize("rule", get_args(PosResize))
@given(before=GRIDS, after=GRIDS)
@settings(max_examples=40, deadline=None)
def test_tables_are_resized_by_the_same_weights(rule: str, before: tuple[int, int], after: tuple[int, int]):
    ours = symbolic.resize_matrices(before, after, rule, LIKE)
    theirs = positions.resize_matrices(before, after, rule) or tuple(np.eye(n) for n in before)
    for a, b in zip(ours, theirs, strict=True):
        assert gap(a.numpy(), b) < FLOAT32_CHAIN


@given(grid=GRIDS)
@settings(max_examples=20, deadline=None)
def test_sines_and_cosines_are_the_same(grid: tuple[int, int]):
    assert gap(symbolic.sincos2d(grid, 16, LIKE).numpy(), positions.sincos2d(grid, 16)) < FLOAT32_CHAIN


@pytest.mark.parametrize(
    "rope",
    [
        dict(rope="dinov3", rope_theta=100.0),
        dict(rope="dinov3", rope_theta=100.0, rope_round_periods="bfloat16", num_registers=2),
        dict(rope="eva02", rope_theta=10_000.0, rope_ref_grid=3),
    ],
)
@given(grid=GRIDS)
@settings(max_examples=20, deadline=None)
def test_rotary_angles_are_the_same(rope: dict[str, Any], grid: tuple[int, int]):
    config = ViTConfig(**SMALL, **rope, pos_embed="none")
    for a, b in zip(symbolic.rope_table(config, grid, LIKE), positions.rope_table(config, grid), strict=True):
        assert gap(a.numpy(), b) < FLOAT32_CHAIN


def test_sizes_that_are_known_are_no_symbols():
    assert not symbolic.is_symbolic((3, 4))
