"""Draws: all the randomness of one step."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Draws:
    """All the randomness of one step.

    MixUp with lam = 1 is no mixing. `box` is read only with use_cutmix, and then decides lam.
    """

    corner: Tensor  # (B, 2) integers in 0..2 * padding: where the crop begins in the padded image
    flip: Tensor  # (B,) booleans: mirror left and right
    use_cutmix: bool  # CutMix for this batch, else MixUp
    lam: float  # the share of an image that stays its own, in 0..1
    box: tuple[int, int, int, int]  # top, bottom, left, right of the pasted rectangle; ends excluded
    partner: Tensor  # (B,) a permutation: what each image is mixed with
    drop_path: Tensor | None = None  # (depth, 2, B): 0 or 1 / keep for the two branches of each block
    dropout: torch.Generator | None = None
