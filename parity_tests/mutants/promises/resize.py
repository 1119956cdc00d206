"""Positions are resized as torch's interpolate does it, whatever the rule: both models share one implementation."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

import vit_torch
from parity_tests.compare import gap
from parity_tests.mutants.promises.base import Measured, Promise, apart
from parity_tests.mutants.promises.compiled import Compiled
from parity_tests.mutants.promises.model import initial
from parity_tests.pairs import images_for, run_torch, to_flax
from parity_tests.test_forward_parity import SMALL
from parity_tests.test_positions import INTERPOLATE, by_torch
from parity_tests.tolerances import RESIZE
from vit_convert.positions import resize_table

GRIDS = 4  # a seed
SIZE = (35, 27)  # of SMALL's 28 x 54: one axis grows and one shrinks
RULES = (*INTERPOLATE, "bicubic_offset")


def interpolated(table: np.ndarray, grid: tuple[int, int], rule: str) -> np.ndarray:
    """By torch; with the offset as facebookresearch/dino, vision_transformer.py, interpolate_pos_encoding."""
    if rule == "bicubic_offset":
        scale = tuple((out + 0.1) / n for n, out in zip(table.shape, grid, strict=False))
        return by_torch(table, scale_factor=scale, mode="bicubic")
    return by_torch(table, grid, **INTERPOLATE[rule])


def measure(rule: str, seed: int) -> Iterator[Measured]:
    random = np.random.default_rng(seed)
    for _ in range(GRIDS):
        # From 2: see test_positions.py on outputs of one column.
        (rows, columns), (to_rows, to_columns) = random.integers(2, 17, (2, 2)).tolist()
        if (rows, columns) == (to_rows, to_columns):
            continue
        table, grid = random.standard_normal((rows, columns, 3)), (to_rows, to_columns)
        found = gap(resize_table(table, grid, rule), interpolated(table, grid, rule))
        yield Measured(f"{rows}x{columns} to {to_rows}x{to_columns}", found, RESIZE)


def conventional(rule: str, folder: Path) -> float:
    """A torch model with a table resized by torch, beside ours at that size."""
    config = SMALL.replace(pos_resize=rule)
    ours = initial(config)
    flax, resized = to_flax(ours, dynamic_size=True), vit_torch.ViT(config.replace(image_size=SIZE))
    table, rows = ours.state_dict()["pos_embed"], config.num_pos_prefix
    patches = table[0, rows:].reshape(*config.grid, -1).numpy()
    patches = torch.tensor(interpolated(patches, resized.config.grid, rule)).reshape(1, -1, config.dim)
    resized.load_state_dict(ours.state_dict() | {"pos_embed": torch.cat([table[:, :rows], patches], dim=1)})
    images = images_for(config, size=SIZE)
    return apart(Compiled().forward(flax, images)["output"], run_torch(resized, images)["output"])


PROMISES = {f"resize: {rule}": Promise(partial(measure, rule), partial(conventional, rule)) for rule in RULES}
