"""Positions: the maths that both models share, in NumPy float64.

Every resize that a ViT repository does to its position table is linear and separable, so each one
is a matrix per axis. The matrices here equal `torch.nn.functional.interpolate` to rounding.
"""

from functools import lru_cache
from typing import Any, get_args

import ml_dtypes
import numpy as np
import numpy.typing as npt

from vit_convert.config import PosResize, ViTConfig, exact_periods

Matrix = npt.NDArray[np.float64]
Grid = tuple[int, int]

CUBIC_A = {False: -0.75, True: -0.5}  # torch's coefficient without and with antialias


def resize_matrix(n_in: int, n_out: int, rule: str) -> Matrix:
    """The weights with which `n_in` samples become `n_out`: (n_out, n_in) float64, read-only.

    Args:
        rule: a `pos_resize` of ViTConfig: `bicubic` or `bilinear`, alone (half-pixel centres), with
            `_antialias`, with `_corners` (align_corners=True, as torchvision's
            interpolate_embeddings), or `bicubic_offset` (facebookresearch/dino
            vision_transformer.py, interpolate_pos_encoding: scale (n_out + 0.1) / n_in).

    Raises:
        ValueError: an unknown rule, or a length below 1.
    """
    if rule not in get_args(PosResize):
        raise ValueError(f"unknown resize rule {rule!r}; expected one of {', '.join(get_args(PosResize))}")
    if n_in < 1 or n_out < 1:
        raise ValueError(f"resize needs lengths of at least 1, got {n_in} -> {n_out}")
    kernel, _, variant = rule.partition("_")
    centres, scale = _centres(n_in, n_out, variant)
    # Below, `scale` is input samples per output sample. Antialias widens the kernel by it.
    stretch = max(scale, 1.0) if variant == "antialias" else 1.0
    reach = int(np.ceil(2 * stretch)) + 1  # two samples of a cubic kernel, and one for rounding
    first, last = int(np.floor(centres.min())) - reach, int(np.ceil(centres.max())) + reach
    taps = np.arange(first, last + 1)
    weights = _kernel(kernel, (taps - centres[:, None]) / stretch, CUBIC_A[variant == "antialias"])
    matrix = _cut(weights, taps, n_in) if variant == "antialias" else _clamp(weights, taps, n_in)
    matrix.flags.writeable = False
    return matrix


@lru_cache(maxsize=64)
def resize_matrices(grid_in: Grid, grid_out: Grid, rule: str) -> tuple[Matrix, Matrix] | None:
    """A matrix per axis, or None where nothing is to be done. Kept, since a model asks at every call.

    Every repository leaves a table of the right grid alone; where one axis differs, both go through
    the interpolation, and DINO's offset moves even the axis that keeps its length.
    """
    if tuple(grid_in) == tuple(grid_out):
        return None
    return resize_matrix(grid_in[0], grid_out[0], rule), resize_matrix(grid_in[1], grid_out[1], rule)


def resize_table(table: npt.NDArray[Any], grid_out: Grid, rule: str) -> npt.NDArray[Any]:
    """(rows, columns, D) -> (*grid_out, D): computed in float64, returned in the table's own dtype."""
    matrices = resize_matrices((table.shape[0], table.shape[1]), grid_out, rule)
    if matrices is None:
        return table
    rows, columns = matrices
    resized = np.einsum("ai,bj,ijd->abd", rows, columns, table.astype(np.float64), optimize=True)
    return resized.astype(table.dtype)


@lru_cache(maxsize=32)
def sincos2d(grid: Grid, dim: int) -> Matrix:
    """Fixed 2D sine-cosine positions: (rows * columns, dim) float64, read-only.

    The table of "Better plain ViT baselines for ImageNet-1k" (Beyer et al. 2022), as in
    google-research/big_vision models/vit.py, posemb_sincos_2d: [sin x, cos x, sin y, cos y] with
    temperature 10,000. MAE's table has other frequencies and is stored in its files: it is "learned".
    """
    if dim % 4 or dim < 8:
        raise ValueError(f"sincos2d needs a dim divisible by 4 and at least 8, got {dim}")
    y, x = np.mgrid[: grid[0], : grid[1]].astype(np.float64)
    omega = 10_000.0 ** -(np.arange(dim // 4) / (dim // 4 - 1))
    y, x = np.outer(y, omega), np.outer(x, omega)
    table = np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)
    table.flags.writeable = False
    return table


@lru_cache(maxsize=32)
def rope_table(config: ViTConfig, grid: Grid) -> tuple[Matrix, Matrix]:
    """Sine and cosine of the rotary angles: each (num_prefix + rows * columns, head_dim) float64, read-only.

    Prefix tokens have angle 0: they are not rotated. A patch has an angle for its row and one for its
    column at each of head_dim / 4 periods, rows first, and each of these twice, for the two
    channels of a pair. Those of DINOv3 are half a head apart, those of EVA-02 neighbours.

    References:
        Siméoni et al. 2025 (DINOv3), facebookresearch/dinov3 dinov3/layers/rope_position_encoding.py
        Fang et al. 2023 (EVA-02), baaivision/EVA EVA-02/asuka/rope.py, VisionRotaryEmbeddingFast
    """
    rows, columns = (_rope_coordinates(config, n) for n in grid)
    angles = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1)[..., None] / rope_periods(config)
    angles = angles.reshape(grid[0] * grid[1], config.head_dim // 2)
    angles = np.repeat(angles, 2, axis=1) if config.rope == "eva02" else np.tile(angles, 2)
    angles = np.concatenate([np.zeros((config.num_prefix, config.head_dim)), angles])
    table = np.sin(angles), np.cos(angles)
    for part in table:
        part.flags.writeable = False
    return table


def rope_periods(config: ViTConfig) -> Matrix:
    """theta^(4 i / head_dim): (head_dim / 4,) float64, rounded as the config says. DINOv3's files hold them."""
    periods = np.array(exact_periods(config))
    return periods.astype(ml_dtypes.bfloat16).astype(np.float64) if config.rope_round_periods == "bfloat16" else periods


def _rope_coordinates(config: ViTConfig, n: int) -> Matrix:
    """Where n patches of one axis lie: (n,). DINOv3 in turns from -1 to 1, EVA-02 in patches of the reference grid."""
    if config.rope == "eva02":
        assert config.rope_ref_grid is not None
        return np.arange(n) / n * config.rope_ref_grid
    return 2 * np.pi * (2 * (np.arange(n) + 0.5) / n - 1)


def _centres(n_in: int, n_out: int, variant: str) -> tuple[Matrix, float]:
    """Where each output sample lies among the inputs, and input samples per output sample."""
    if variant == "corners":
        scale = (n_in - 1) / (n_out - 1) if n_out > 1 else 0.0
        return np.arange(n_out, dtype=np.float64) * scale, scale
    scale = n_in / (n_out + 0.1) if variant == "offset" else n_in / n_out
    return (np.arange(n_out, dtype=np.float64) + 0.5) * scale - 0.5, scale


def _kernel(kernel: str, t: Matrix, a: float) -> Matrix:
    """Triangle, or Keys's cubic convolution (1981, eq. 15) with parameter `a`."""
    t = np.abs(t)
    if kernel == "bilinear":
        return np.maximum(1 - t, 0)
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def _clamp(weights: Matrix, taps: npt.NDArray[np.int_], n_in: int) -> Matrix:
    """Taps beyond the border read the border sample (torch without antialias)."""
    matrix = np.zeros((len(weights), n_in))
    for column, tap in zip(weights.T, np.clip(taps, 0, n_in - 1), strict=True):
        matrix[:, tap] += column
    return matrix


def _cut(weights: Matrix, taps: npt.NDArray[np.int_], n_in: int) -> Matrix:
    """Taps beyond the border are left out and the rest is scaled to sum to one (with antialias)."""
    inside = np.zeros((len(weights), n_in))
    keep = (taps >= 0) & (taps < n_in)
    inside[:, taps[keep]] = weights[:, keep]
    return inside / inside.sum(1, keepdims=True)
