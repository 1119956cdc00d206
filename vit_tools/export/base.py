"""What every kind of export is: a file written from a checkpoint, and a way to run it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_convert.checkpoint import Checkpoint

Run = Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]  # preprocessed images (B, H, W, C) -> logits (B, K)
DTYPES = ("float32", "float16", "bfloat16", "int8")
RUN_ON = "cpu"  # where every export is run, and compared with its model, whatever it is lowered for


@dataclass(frozen=True)
class Asked:
    """What is exported, and how."""

    path: str  # of the checkpoint
    found: Checkpoint
    how: dict[str, Any]  # arguments of from_pretrained
    dtype: str
    platforms: tuple[str, ...]  # of StableHLO
    dynamic_size: bool = False  # images of any size that the patches divide, two patches a side at least

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images that its preprocessing makes; without dynamic_size the only one."""
        assert self.found.preprocess is not None
        return self.found.preprocess.crop

    @property
    def resized(self) -> bool:
        """Whether it takes another size than the model's own: its positions are then resized in the program."""
        return self.dynamic_size or self.size != self.found.config.image_hw

    @property
    def channels(self) -> int:
        return self.found.config.in_channels


@dataclass(frozen=True)
class Kind:
    """One file format."""

    suffix: str
    what: str  # in words
    dtypes: tuple[str, ...]
    needs: tuple[str, ...]  # packages
    extra: str  # of vit-parity, that has them
    write: Callable[[Asked, Path, dict[str, Any]], None]  # to this path, with this metadata inside
    load: Callable[[Path], Run]
    read_metadata: Callable[[Path], dict[str, Any]]
    any_size: bool = False  # whether the size of the images can be left open
    lowers: bool = False  # whether one file is for several platforms
    largest: int | None = None  # bytes of weights that such a file holds
    limit: str = ""  # whose limit that is
    from_float32: tuple[str, ...] = ()  # dtypes that are made of the float32 program, which computes in float32

    def holds(self, nbytes: int) -> bool:
        """Whether weights of so many bytes fit into such a file."""
        return self.largest is None or nbytes <= self.largest

    def not_run(self, asked: Asked) -> tuple[str, ...]:
        """The platforms that a file is lowered for and was not run on."""
        return tuple(name for name in asked.platforms if name != RUN_ON) if self.lowers else ()
