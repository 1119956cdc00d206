"""Checkpoints of any layout in temporary folders, and tensors compared bit for bit: what the tests of layouts share."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vit_convert.checkpoint import save_checkpoint
from vit_convert.config import ViTConfig

HF = ViTConfig(
    image_size=(6, 9), patch_size=(2, 3), dim=24, depth=2, num_heads=3, mlp_dim=40, num_classes=5, pos_resize="bicubic"
)


@contextmanager
def temporary_folders_in(folder: Path) -> Iterator[None]:
    """Hypothesis runs a test many times in one tmp_path: each save makes a folder of its own, in pytest's."""
    tempfile.tempdir = str(folder)
    yield
    tempfile.tempdir = None


def save(config: ViTConfig, tensors: dict[str, np.ndarray], **options: Any) -> Path:
    path = Path(tempfile.mkdtemp()) / "checkpoint"
    save_checkpoint(path, config, tensors.items(), **options)
    return path


def assert_equal_bits(tensors: Iterable[tuple[str, np.ndarray]], expected: Mapping[str, np.ndarray]) -> None:
    found = dict(tensors)
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].flags.c_contiguous, name
        assert found[name].tobytes() == array.tobytes(), name
