"""float32 and bfloat16: Flax's error against float64 is PyTorch's, of whole models, and of the operations that sum.

A model's gradients pass through few small tensors, whose ratios scatter up to 1.5 by chance: what would be wrong with
them is seen in the operations, where thousands of values make a steady mean.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

import vit_flax.attention
import vit_flax.rope
import vit_flax.sums
import vit_torch
import vit_torch.attention
import vit_torch.rope
from parity_tests.compare import gap, rms
from parity_tests.mutants.promises import model
from parity_tests.mutants.promises.base import Measured, Promise
from parity_tests.mutants.promises.compiled import Compiled
from parity_tests.pairs import AS_USERS, images_for, randomise, run_torch, to_flax
from parity_tests.test_forward_parity import CONFIGS, SMALL
from parity_tests.test_layer_norm import CONFIG as WIDE
from parity_tests.test_layer_norm import norms
from parity_tests.tolerances import FORWARD, NOISE_RATIO
from vit_convert.config import ViTConfig

DEEP = ViTConfig(image_size=48, patch_size=8, dim=96, depth=4, num_heads=4, mlp_dim=384, num_classes=50)
DINOV3 = DEEP.replace(rope="dinov3", rope_theta=100, pos_embed="none")
BATCH = 16


@dataclass(frozen=True)
class Noise:
    """What test_precision.py compares of outputs, at one config and dtype, for any seed."""

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
        images = held(images_for(self.config, BATCH, seed), self.dtype)
        names = ["embeddings", *(f"blocks.{i}" for i in range(self.config.depth)), "norm"]
        truth, theirs = run_torch(exact, images, names), run_torch(rounded, images, names)
        ours = self.compiled.forward(to_flax(rounded), images, names)
        for name, x in truth.items():
            yield over_torchs(name, ours[name], theirs[name], x)

    def weights(self, seed: int) -> tuple[vit_torch.ViT, vit_torch.ViT]:
        """(float64, in dtype) of the same weights, which are rounded once, for both."""
        rounded, exact = (vit_torch.ViT(self.config).double() for _ in range(2))
        randomise(rounded, seed)
        rounded.to(getattr(torch, self.dtype))
        exact.load_state_dict({name: x.double() for name, x in rounded.state_dict().items()})
        return exact, rounded


def held(x: np.ndarray, dtype: str) -> np.ndarray:
    """x rounded to what the dtype holds, so that all see the same numbers."""
    return np.asarray(jnp.asarray(x).astype(dtype), np.float64)


def over_torchs(what: str, ours: np.ndarray, theirs: np.ndarray, truth: np.ndarray) -> Measured:
    return Measured(f"error of {what}, over PyTorch's", rms(ours - truth) / rms(theirs - truth), NOISE_RATIO)


@dataclass(frozen=True)
class Operation:
    """One operation in both frameworks, in bfloat16: its output and its gradients beside those of float64."""

    flax: Callable[..., jax.Array]
    ours: Callable[..., torch.Tensor]
    shapes: Sequence[tuple[int, ...]]
    output: bool = True  # compare it, too

    def measure(self, seed: int) -> Iterator[Measured]:
        random = np.random.default_rng(seed)
        inputs = [held(1.5 * random.standard_normal(shape), "bfloat16") for shape in self.shapes]
        cotangent = held(random.standard_normal(self.shapes[0]), "bfloat16")
        ours = [np.asarray(x, np.float64) for x in self.in_flax(inputs, cotangent)]
        theirs, truth = (self.in_torch(inputs, cotangent, dtype) for dtype in (torch.bfloat16, torch.float64))
        names = ["the output", *(f"the gradient of input {i}" for i in range(len(inputs)))]
        for name, a, b, exact in list(zip(names, ours, theirs, truth, strict=True))[not self.output :]:
            if rms(b - exact):  # a gradient that is the cotangent itself has no error
                yield over_torchs(name, a, b, exact)

    @cached_property
    def program(self) -> Any:
        def run(inputs: list[jax.Array], cotangent: jax.Array) -> list[jax.Array]:
            output, pull = jax.vjp(self.flax, *inputs)
            return [output, *pull(cotangent)]

        return jax.jit(run, compiler_options=AS_USERS)

    def in_flax(self, inputs: list[np.ndarray], cotangent: np.ndarray) -> list[jax.Array]:
        return self.program([jnp.asarray(x, jnp.bfloat16) for x in inputs], jnp.asarray(cotangent, jnp.bfloat16))

    def in_torch(self, inputs: list[np.ndarray], cotangent: np.ndarray, dtype: torch.dtype) -> list[np.ndarray]:
        leaves = [torch.tensor(x).to(dtype).requires_grad_() for x in inputs]
        output = self.ours(*leaves)
        grads = torch.autograd.grad(output, leaves, torch.tensor(cotangent).to(dtype))
        return [x.detach().double().numpy() for x in (output, *grads)]


def large_means(seed: int) -> Iterator[Measured]:
    """What test_layer_norm.py compares: inputs whose mean is a hundred standard deviations."""
    for kind in ("layer", "rms"):
        flax, ours, _ = norms("float64", WIDE.replace(norm=kind), seed)
        yield Measured(f"{kind} norm in float64", gap(flax, ours), FORWARD)
    flax, ours, exact = norms("float32", WIDE, seed)
    yield over_torchs("layer norm in float32", flax, ours, exact)


def rotated(rope: Any, x: Any) -> Any:
    """Queries rotated as DINOv3 does it, by the module `rope` of either framework."""
    return rope.rotate("dinov3", x, rope.make_rope(DINOV3, DINOV3.grid, like=x))


HEADS = (BATCH, 1 + DINOV3.num_patches, DINOV3.num_heads, DINOV3.head_dim)
OPERATIONS = {
    "attention": Operation(
        lambda q, k, v: vit_flax.attention.fused_attention(q, k, v),
        lambda q, k, v: vit_torch.attention.fused_attention(q, k, v),
        [HEADS] * 3,
    ),
    "rotation": Operation(
        partial(rotated, vit_flax.rope),
        partial(rotated, vit_torch.rope),
        [HEADS],
    ),
    "bias": Operation(vit_flax.sums.add, torch.add, [(4096, 96), (96,)]),
}
CASES = {
    "bfloat16": Noise(DEEP, "bfloat16"),
    "bfloat16, dinov3": Noise(DINOV3, "bfloat16"),
    "float32": Noise(DEEP, "float32"),
}
USUAL = {"attention": SMALL, "rotation": CONFIGS["dinov3"], "bias": SMALL}
PROMISES = {f"noise: {name}": case.promise for name, case in CASES.items()}
for _name, _operation in OPERATIONS.items():
    PROMISES[f"noise: {_name}"] = Promise(_operation.measure, model.Case(USUAL[_name]).conventional)
PROMISES["norm: large means"] = Promise(large_means, model.Case(SMALL).conventional)
