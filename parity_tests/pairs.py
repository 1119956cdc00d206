"""The same weights in both frameworks, through the public way: saved by one, loaded by the other."""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

import vit_flax
import vit_torch
from vit_convert.checkpoint import open_checkpoint
from vit_convert.config import ViTConfig
from vit_flax.pretrained import Pretrained

Arrays = dict[str, np.ndarray]
# Where rounding itself is measured, it is that of a program compiled as users compile theirs; see conftest.py.
AS_USERS: dict[str, Any] = {"xla_backend_optimization_level": 3}


def randomise(model: torch.nn.Module, seed: int, std: float = 0.3) -> None:
    """Every parameter random and far from its initial value, norms around one: no mistake hides behind a zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        is_scale = parameter.ndim == 1 and name.endswith("weight")
        fan_in = parameter[0].numel() if parameter.ndim > 1 and name.endswith("weight") else 1 / std**2
        noise = torch.empty(parameter.shape, dtype=torch.float64).normal_(0, 1, generator=generator)
        parameter.data = (is_scale + noise * (std if is_scale else fan_in**-0.5)).to(parameter.dtype)


def make_pair(config: ViTConfig, seed: int = 0, **run: Any) -> tuple[vit_torch.ViT, vit_flax.ViT]:
    """Two float64 models of one function."""
    ours = vit_torch.ViT(config, **run).double()
    randomise(ours, seed)
    return ours, to_flax(ours, param_dtype=jnp.float64, **run)


def to_flax(model: vit_torch.ViT, **options: Any) -> vit_flax.ViT:
    """The torch model, through a native checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder) / "checkpoint")
        return vit_flax.ViT.from_pretrained(Path(folder) / "checkpoint", **options)


def to_torch(model: vit_flax.ViT, **options: Any) -> vit_torch.ViT:
    """The Flax model, through a native checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder) / "checkpoint")
        return vit_torch.ViT.from_pretrained(Path(folder) / "checkpoint", **options)


def images_for(config: ViTConfig, batch: int = 2, seed: int = 0, size: tuple[int, int] | None = None) -> np.ndarray:
    """Random float64 images (B, H, W, C)."""
    shape = (batch, *(size or config.image_hw), config.in_channels)
    return np.random.default_rng(seed).standard_normal(shape)


def nchw(images: np.ndarray) -> torch.Tensor:
    return torch.tensor(images).permute(0, 3, 1, 2).contiguous()


def held_exactly(x: np.ndarray, dtype: str) -> np.ndarray:
    """x in float64, rounded to what dtype holds, so that models of either dtype see the same numbers."""
    return np.asarray(jnp.asarray(x).astype(dtype), np.float64)


def run_torch(model: vit_torch.ViT, images: np.ndarray, names: Sequence[str] = ()) -> Arrays:
    """Output and intermediates, as float64 NumPy arrays."""
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        output, found = model(nchw(images).to(dtype), names) if names else (model(nchw(images).to(dtype)), {})
    return {"output": output.double().numpy()} | {name: x.double().numpy() for name, x in found.items()}


def run_flax(model: vit_flax.ViT, images: np.ndarray, names: Sequence[str] = ()) -> Arrays:
    """Output and intermediates under plain jax.jit, as float64 NumPy arrays."""
    graph, state = nnx.split(model)
    float64 = jax.tree.leaves(state)[0].dtype == jnp.float64

    @partial(jax.jit, compiler_options=None if float64 else AS_USERS)
    def apply(state: Any, images: jax.Array) -> Any:
        output = nnx.merge(graph, state)(images, names)
        return output if names else (output, {})

    output, found = apply(state, jnp.asarray(images))
    return {name: np.asarray(x, np.float64) for name, x in {"output": output, **found}.items()}


def answers_torch(model: vit_torch.ViT, images: np.ndarray, cotangent: np.ndarray) -> tuple[np.ndarray, Arrays]:
    """The output, and the gradients of sum(output * cotangent) by hub name, with that of the images as NHWC."""
    dtype = next(model.parameters()).dtype
    x = nchw(images).to(dtype).requires_grad_()
    model.zero_grad()
    output = model(x)
    (output * torch.tensor(cotangent, dtype=dtype)).sum().backward()
    assert x.grad is not None
    found = {name: p.grad.double().numpy() for name, p in model.named_parameters() if p.grad is not None}
    return output.detach().double().numpy(), found | {"images": x.grad.permute(0, 2, 3, 1).double().numpy()}


def answers_flax(model: vit_flax.ViT, images: np.ndarray, cotangent: np.ndarray) -> tuple[np.ndarray, Arrays]:
    """The same by Flax's path, brought to hub names and shapes by saving the gradients as if they were weights."""
    graph, state = nnx.split(model)

    def loss(state: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        output = nnx.merge(graph, state)(images)
        return (output * jnp.asarray(cotangent, output.dtype)).sum(), output

    dtype = jax.tree.leaves(state)[0].dtype
    grad = jax.grad(loss, argnums=(0, 1), has_aux=True)
    compiled = jax.jit(grad, compiler_options=None if dtype == jnp.float64 else AS_USERS)
    (grads, image_grad), output = compiled(state, jnp.asarray(images, dtype))
    found = hub_arrays(nnx.merge(graph, grads)) | {"images": np.asarray(image_grad)}
    return np.asarray(output, np.float64), {name: np.asarray(x, np.float64) for name, x in found.items()}


def grads_torch(model: vit_torch.ViT, images: np.ndarray, cotangent: np.ndarray) -> Arrays:
    return answers_torch(model, images, cotangent)[1]


def grads_flax(model: vit_flax.ViT, images: np.ndarray, cotangent: np.ndarray) -> Arrays:
    return answers_flax(model, images, cotangent)[1]


def hub_arrays(model: Pretrained) -> Arrays:
    """Hub name -> array in torch layout, of a Flax model's parameters."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder) / "checkpoint")
        return {name: np.array(x) for name, x in open_checkpoint(Path(folder) / "checkpoint").tensors("native")}
