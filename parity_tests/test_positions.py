"""Positions: one resize, equal to torch's for every rule, and the tables of the papers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from parity_tests.compare import apart, gap
from parity_tests.tolerances import RESIZE, ROUNDING
from vit_convert.config import ViTConfig
from vit_convert.positions import resize_matrices, resize_matrix, resize_table, rope_periods, rope_table, sincos2d

INTERPOLATE = {
    "bicubic": {"mode": "bicubic"},
    "bicubic_antialias": {"mode": "bicubic", "antialias": True},
    "bicubic_corners": {"mode": "bicubic", "align_corners": True},
    "bilinear": {"mode": "bilinear"},
    "bilinear_antialias": {"mode": "bilinear", "antialias": True},
    "bilinear_corners": {"mode": "bilinear", "align_corners": True},
}
sides = st.integers(1, 40)
grids = st.tuples(sides, sides)


def table_of(grid: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(grid).standard_normal((*grid, 3))


def by_torch(table: np.ndarray, grid: tuple[int, int] | None = None, **options) -> np.ndarray:
    images = torch.tensor(table).permute(2, 0, 1)[None].contiguous()
    return F.interpolate(images, grid, **options)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("rule", INTERPOLATE)
@given(grid_in=grids, grid_out=grids)
def test_resize_equals_torch_interpolate(rule, grid_in, grid_out):
    if "antialias" in rule and grid_out[1] == 1:
        # torch 2.13's antialias filter on a CPU leaves the rows unresized when the output is one column wide
        # (its transpose, one row high, is right and equals ours): one row instead.
        grid_in, grid_out = grid_in[::-1], grid_out[::-1]
    if "antialias" in rule and grid_out[1] == 1:
        return  # 1 x 1 out: both orders have the fault
    table = table_of(grid_in)
    assert gap(resize_table(table, grid_out, rule), by_torch(table, grid_out, **INTERPOLATE[rule])) < RESIZE


@given(grid_in=grids, grid_out=grids)
def test_resize_with_offset_equals_dino(grid_in, grid_out):
    """facebookresearch/dino vision_transformer.py, interpolate_pos_encoding."""
    scale = tuple((out + 0.1) / n for n, out in zip(grid_in, grid_out, strict=True))
    table = table_of(grid_in)
    expected = table if grid_in == grid_out else by_torch(table, scale_factor=scale, mode="bicubic")
    assert expected.shape[:2] == grid_out
    assert gap(resize_table(table, grid_out, "bicubic_offset"), expected) < RESIZE


def test_the_offset_moves_even_an_axis_that_keeps_its_length():
    rows, columns = resize_matrices((6, 6), (6, 9), "bicubic_offset") or pytest.fail("no matrices")
    assert not np.array_equal(rows, np.eye(6))
    assert columns.shape == (9, 6)


@pytest.mark.parametrize("rule", [*INTERPOLATE, "bicubic_offset"])
def test_a_table_of_the_right_grid_is_left_alone(rule):
    table = table_of((5, 7))
    assert resize_table(table, (5, 7), rule) is table


@pytest.mark.parametrize("rule", [*INTERPOLATE, "bicubic_offset"])
@given(n_in=sides, n_out=sides)
def test_a_constant_stays_constant(rule, n_in, n_out):
    assert apart(resize_matrix(n_in, n_out, rule).sum(1), np.ones(n_out)) < RESIZE


@pytest.mark.parametrize("rule", ["lanczos", "nearest", "bilinear_offset", "offset"])
def test_an_unknown_rule_is_refused(rule):
    with pytest.raises(ValueError, match="unknown resize rule"):
        resize_matrix(3, 4, rule)


def test_sincos2d_is_big_visions_table():
    """google-research/big_vision models/vit.py, posemb_sincos_2d, written out for one entry at a time."""
    grid, dim = (3, 5), 16
    table = sincos2d(grid, dim)
    for row in range(grid[0]):
        for column in range(grid[1]):
            for i in range(dim // 4):
                omega = 1 / 10_000 ** (i / (dim // 4 - 1))
                expected = [np.sin(column * omega), np.cos(column * omega), np.sin(row * omega), np.cos(row * omega)]
                assert apart(table[row * grid[1] + column, i :: dim // 4], expected) < ROUNDING


def test_bfloat16_tables_are_resized_in_float64_and_rounded_once():
    import ml_dtypes

    table = table_of((6, 6)).astype(ml_dtypes.bfloat16)
    resized = resize_table(table, (4, 9), "bicubic")
    exact = resize_table(table.astype(np.float64), (4, 9), "bicubic")
    assert resized.dtype == ml_dtypes.bfloat16
    assert np.array_equal(resized, exact.astype(ml_dtypes.bfloat16))


ROTARY = ViTConfig(
    image_size=(6, 10),
    patch_size=2,
    dim=32,
    depth=1,
    num_heads=2,
    mlp_dim=8,
    num_registers=3,
    rope="dinov3",
    rope_theta=9,
)
ROTARY_EVA = ROTARY.replace(rope="eva02", rope_ref_grid=16)


def test_dinov3_s_rotary_table_is_the_paper_s():
    """facebookresearch/dinov3 dinov3/layers/rope_position_encoding.py, written out for one entry at a time."""
    sin, cos = rope_table(ROTARY, (3, 5))
    assert sin.shape == cos.shape == (4 + 15, 16)
    for row in range(3):
        for column in range(5):
            coordinates = [2 * (row + 0.5) / 3 - 1, 2 * (column + 0.5) / 5 - 1]
            angles = [2 * np.pi * x / 9 ** (2 * i / 8) for x in coordinates for i in range(4)] * 2
            assert apart(sin[4 + row * 5 + column], np.sin(angles)) < ROUNDING
            assert apart(cos[4 + row * 5 + column], np.cos(angles)) < ROUNDING


def test_eva02_s_rotary_table_is_the_paper_s():
    """baaivision/EVA EVA-02/asuka/rope.py, VisionRotaryEmbeddingFast, written out for one entry at a time."""
    sin, cos = rope_table(ROTARY_EVA, (3, 5))
    for row in range(3):
        for column in range(5):
            coordinates = [row / 3 * 16, column / 5 * 16]
            angles = [x / 9 ** (i / 4) for x in coordinates for i in range(4) for _ in range(2)]
            assert apart(sin[4 + row * 5 + column], np.sin(angles)) < ROUNDING
            assert apart(cos[4 + row * 5 + column], np.cos(angles)) < ROUNDING


@pytest.mark.parametrize("config", [ROTARY, ROTARY_EVA], ids=["dinov3", "eva02"])
def test_prefix_tokens_are_not_rotated(config):
    sin, cos = rope_table(config, (3, 5))
    assert not sin[:4].any()
    assert (cos[:4] == 1).all()


@pytest.mark.parametrize("head_dim", [8, 32, 64, 128])
def test_rounded_periods_are_those_of_dinov3_s_files(head_dim):
    """Whether a file's `periods` were computed in bfloat16 or rounded to it from float32: at theta 100 they agree."""
    config = ROTARY.replace(dim=2 * head_dim, rope_theta=100, rope_round_periods="bfloat16")
    for dtype in (torch.bfloat16, torch.float32):
        exponents = 2 * torch.arange(head_dim // 4, dtype=dtype) / (head_dim // 2)
        assert np.array_equal(rope_periods(config), (100**exponents).bfloat16().double().numpy())


def test_periods_that_bfloat16_holds_are_one_config_with_and_without_rounding():
    coarse = ROTARY.replace(dim=16, rope_theta=100)  # periods 1 and 10
    assert coarse.replace(rope_round_periods="bfloat16") == coarse
    fine = ROTARY.replace(rope_theta=100)  # 1, 3.16, 10, 31.6
    assert fine.replace(rope_round_periods="bfloat16") != fine
    assert not np.array_equal(rope_periods(fine.replace(rope_round_periods="bfloat16")), rope_periods(fine))
