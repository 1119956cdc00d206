"""What a magnitude means to each of RandAugment's operations: timm's numbers, in float64, in a table.

A table and not a formula: float32 would turn some thresholds and angles into their neighbours. Its rows are
magnitudes, in 64ths. Reference: LEVEL_TO_ARG of timm/data/auto_augment.py.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from train.augment.geometry import fixed
from train.draws.images import LEVEL

NAMES = (
    "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd", "Color", "Contrast",
    "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel",
)  # fmt: skip
NUMBER = {name: number for number, name in enumerate(NAMES)}
WARPS = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")


class Arguments(NamedTuple):
    """By magnitude (M of them, in 64ths), and [0] as drawn, [1] negative, where that makes a difference."""

    bits: np.ndarray  # (M,) int32: what Posterize keeps
    threshold: np.ndarray  # (M,) int32: from where on Solarize inverts
    added: np.ndarray  # (M,) int32: what SolarizeAdd adds
    factor: np.ndarray  # (2, M) float32: of Color, Contrast, Brightness and Sharpness
    coarse: np.ndarray  # (6, 2, M, 2, 3) int32: of the WARPS; first no warp
    fine: np.ndarray  # (6, 2, M, 2, 3) int32


@cache
def arguments(largest: int, increasing: bool, H: int, W: int) -> Arguments:
    """For magnitudes of 0..largest 64ths, and images of (H, W)."""
    share = np.arange(largest + 1) / LEVEL / 10
    signed = np.stack([share, -share])
    bits, threshold = np.trunc(share * 4), np.minimum(256, np.trunc(share * 256))
    factor = np.maximum(0.1, 1 + signed * 0.9) if increasing else np.stack([share * 1.8 + 0.1] * 2)
    warps = [fixed(matrix, exact=exact) for matrix, exact in _matrices(signed, H, W)]
    return Arguments(
        bits=(4 - bits if increasing else bits).astype(np.int32),
        threshold=(256 - threshold if increasing else threshold).astype(np.int32),
        added=np.minimum(128, np.trunc(share * 110)).astype(np.int32),
        factor=factor.astype(np.float32),
        coarse=np.stack([coarse for coarse, _ in warps]),
        fine=np.stack([fine for _, fine in warps]),
    )


def _matrices(signed: np.ndarray, H: int, W: int) -> list[tuple[np.ndarray, bool]]:
    """No warp and the WARPS: (2, M, 2, 3), target pixel -> source, and whether it keeps whole pixels' distances."""
    one, zero, x, y = np.ones_like(signed), np.zeros_like(signed), W / 2, H / 2
    angle = np.radians(signed * 30)
    cos, sin = np.cos(angle), -np.sin(angle)  # Pillow turns counter-clockwise, and y points down
    return [
        (_from_corner(one, zero, zero, zero, one, zero), True),
        (_from_corner(cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y), False),
        (_from_corner(one, signed * 0.3, zero, zero, one, zero), False),
        (_from_corner(one, zero, zero, signed * 0.3, one, zero), False),
        (_from_corner(one, zero, signed * 0.45 * W, zero, one, zero), True),
        (_from_corner(one, zero, zero, zero, one, signed * 0.45 * H), True),
    ]


def _from_corner(a, b, c, d, e, f) -> np.ndarray:
    """Pillow's six coefficients, which map pixels' corners, as a matrix (..., 2, 3) that maps target numbers."""
    rows = [[a, b, c + a * 0.5 + b * 0.5], [d, e, f + d * 0.5 + e * 0.5]]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))
