"""float32 and bfloat16: Flax's error against float64 is PyTorch's, for outputs, gradients, and norms of large means."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np
import torch

import vit_torch
from parity_tests.compare import gap, rms
from parity_tests.mutants.promises import model
from parity_tests.mutants.promises.base import Measured, Promise
from parity_tests.mutants.promises.compiled import Compiled
from parity_tests.pairs import AS_USERS, Arrays, grads_torch, images_for, randomise, run_torch, to_flax
from parity_tests.test_forward_parity import SMALL
from parity_tests.test_layer_norm import CONFIG as WIDE
from parity_tests.test_layer_norm import norms
from parity_tests.tolerances import FORWARD, NOISE_RATIO
from vit_convert.config import ViTConfig

DEEP = ViTConfig(image_size=48, patch_size=8, dim=96, depth=4, num_heads=4, mlp_dim=384, num_classes=50)
DINOV3 = DEEP.replace(rope="dinov3", rope_theta=100, pos_embed="none")
BATCH = 16
ROWS = (
    1024  # a row's error is mostly that of its mean: of 64 the ratio scatters from 1.0 to 1.75, of these 1.25 to 1.45
)


@dataclass(frozen=True)
class Noise:
    """What test_precision.py compares, at one config and dtype, for any seed."""

    config: ViTConfig
    dtype: str

    @cached_property
    def compiled(self) -> Compiled:
        return Compiled(AS_USERS)

    @property
    def promise(self) -> Promise:
        return Promise(self.measure, model.Case(self.config).conventional)

    def measure(self, seed: int) -> Iterator[Measured]:
        exact, rounded = self.weights(seed)
        flax, images = to_flax(rounded), self.held(images_for(self.config, BATCH, seed))
        names = ["embeddings", *(f"blocks.{i}" for i in range(self.config.depth)), "norm"]
        truth, theirs = run_torch(exact, images, names), run_torch(rounded, images, names)
        ours = self.compiled.forward(flax, images, names)
        for name, x in truth.items():
            ratio = rms(ours[name] - x) / rms(theirs[name] - x)
            yield Measured(f"error of {name}, over PyTorch's", ratio, NOISE_RATIO)
        cotangent = self.held(np.random.default_rng(seed + 1).standard_normal(truth["output"].shape))
        _, ours = self.compiled.gradients(flax, images, cotangent)
        truth, theirs = grads_torch(exact, images, cotangent), grads_torch(rounded, images, cotangent)
        mine, other = by_kind(ours, truth), by_kind(theirs, truth)
        for kind in mine:
            yield Measured(f"error of the gradient of {kind}, over PyTorch's", mine[kind] / other[kind], NOISE_RATIO)

    def weights(self, seed: int) -> tuple[vit_torch.ViT, vit_torch.ViT]:
        """(float64, in dtype) of the same weights, which are rounded once, for both."""
        rounded, exact = (vit_torch.ViT(self.config).double() for _ in range(2))
        randomise(rounded, seed)
        rounded.to(getattr(torch, self.dtype))
        exact.load_state_dict({name: x.double() for name, x in rounded.state_dict().items()})
        return exact, rounded

    def held(self, x: np.ndarray) -> np.ndarray:
        """x rounded to what the dtype holds, so that all see the same numbers."""
        return np.asarray(jnp.asarray(x).astype(self.dtype), np.float64)


def by_kind(found: Arrays, truth: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Root mean square of the errors by kind of parameter, all blocks together, each as a part of its tensor's size."""
    kinds: dict[str, list[np.ndarray]] = {}
    for name, exact in truth.items():
        error = ((found[name] - exact) / rms(exact)).ravel()
        kinds.setdefault(re.sub(r"[.][0-9]+[.]", ".", name), []).append(error)
    return {kind: rms(np.concatenate(errors)) for kind, errors in kinds.items()}


def large_means(seed: int) -> Iterator[Measured]:
    """What test_layer_norm.py compares: inputs whose mean is a hundred standard deviations."""
    for kind in ("layer", "rms"):
        flax, ours, _ = norms("float64", WIDE.replace(norm=kind), seed)
        yield Measured(f"{kind} norm in float64", gap(flax, ours), FORWARD)
    flax, ours, exact = norms("float32", WIDE, seed, ROWS)
    yield Measured("error in float32, over PyTorch's", rms(flax - exact) / rms(ours - exact), NOISE_RATIO)


CASES = {
    "bfloat16": Noise(DEEP, "bfloat16"),
    "bfloat16, dinov3": Noise(DINOV3, "bfloat16"),
    "float32": Noise(DEEP, "float32"),
}
PROMISES = {f"noise: {name}": case.promise for name, case in CASES.items()}
PROMISES["norm: large means"] = Promise(large_means, model.Case(SMALL).conventional)
