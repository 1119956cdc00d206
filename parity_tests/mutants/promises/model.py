"""float64: outputs, every intermediate and every gradient are PyTorch's, by config."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

import vit_flax
import vit_torch
from parity_tests.compare import gap, gaps, leaf_gaps
from parity_tests.mutants.promises.base import Measured, Promise, apart
from parity_tests.mutants.promises.compiled import Compiled, Pair
from parity_tests.pairs import grads_torch, images_for, run_torch, to_flax
from parity_tests.test_forward_parity import CONFIGS, SMALL
from parity_tests.tolerances import FORWARD, GRADIENT
from vit_convert.config import ViTConfig
from vit_convert.intermediates import intermediate_names

ELEVEN = ViTConfig(image_size=8, patch_size=4, dim=16, depth=11, num_heads=2, mlp_dim=24, num_classes=5)


@dataclass(frozen=True)
class Case:
    """A config, and how its models are run."""

    config: ViTConfig
    size: tuple[int, int] | None = None  # of the images, where it is another than the config's
    scan: bool = False  # one compiled block for all layers, computed again in the backward pass

    @cached_property
    def compiled(self) -> Compiled:
        return Compiled()

    @cached_property
    def pair(self) -> Pair:
        pair = Pair(self.config, dynamic_size=self.size is not None)
        self.run_as_asked(pair.flax)
        return pair

    @property
    def promise(self) -> Promise:
        return Promise(self.measure, self.conventional)

    def measure(self, seed: int) -> Iterator[Measured]:
        """What test_forward_parity.py's checks compare, in the order in which it is computed."""
        self.pair.draw(seed)
        ours, flax = self.pair.ours, self.pair.flax
        images, names = images_for(self.config, seed=seed, size=self.size), intermediate_names(self.config)
        theirs = run_torch(ours, images, names)
        for name, found in gaps(self.compiled.forward(flax, images, names), theirs).items():
            yield Measured(name, found, FORWARD)
        cotangent = np.random.default_rng(seed + 1).standard_normal(theirs["output"].shape)
        output, grads = self.compiled.gradients(flax, images, cotangent)
        yield Measured("output without intermediates", gap(output, run_torch(ours, images)["output"]), FORWARD)
        for name, found in leaf_gaps(grads, grads_torch(ours, images, cotangent)).items():
            yield Measured(f"gradient of {name}", found, GRADIENT)

    def run_as_asked(self, flax: vit_flax.ViT) -> None:
        flax.scan = flax.remat = self.scan

    def conventional(self, folder: Path) -> float:
        ours = initial(self.config, dynamic_size=self.size is not None)
        flax = to_flax(ours, dynamic_size=self.size is not None)
        self.run_as_asked(flax)
        images = images_for(self.config, size=self.size)
        return apart(Compiled().forward(flax, images)["output"], run_torch(ours, images)["output"])


def initial(config: ViTConfig, dynamic_size: bool = False) -> vit_torch.ViT:
    """A float32 model at its initial values."""
    return vit_torch.ViT(config, dynamic_size=dynamic_size, generator=torch.Generator().manual_seed(0))


CASES = {
    **{name: Case(config) for name, config in CONFIGS.items()},
    "another size": Case(SMALL.replace(pos_resize="bicubic"), size=(35, 45)),
    "eleven blocks, scanned": Case(ELEVEN, scan=True),
}
PROMISES = {f"model: {name}": case.promise for name, case in CASES.items()}
