"""What the golden cases of torch models share: random weights, float64 runs, torch.save."""

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.golden.case import Arrays, images, key, model_input, random_values

Size = tuple[int, int]
Outputs = Callable[[Any, Any], dict[str, Any]]  # (model, float64 images NCHW) -> tensors by name
NATIVE, OTHER, LARGER = (20, 20), (12, 28), (28, 28)  # pixels; patches of 4
TOKENS = {
    "output": "forward(x) in eval mode: the normed class token (batch, dim)",
    "patch_tokens": "the normed patch tokens (batch, patches, dim), row by row",
}
LOGITS = {"output": "forward(x) in eval mode: logits (batch, classes)"}
TABLE = {"pos_embed": "the position table that the family's own code made for this size, prefix rows first"}


def config(dim: int, num_heads: int, mlp_dim: int, **others: Any) -> dict[str, Any]:
    return dict(image_size=20, patch_size=4, dim=dim, depth=2, num_heads=num_heads, mlp_dim=mlp_dim) | others


def filled(module: Any, seed: int) -> Any:
    """`module` in eval mode with random parameters; buffers stay what they are."""
    torch, rng = importlib.import_module("torch"), np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(random_values(name, tuple(parameter.shape), rng)))
    return module.eval()


def arrays_by_size(model: Any, sizes: tuple[Size, ...], outputs: Outputs) -> Arrays:
    """Images, and what `outputs` gives for them. `model`: a module, left in float64, or whatever `outputs` takes."""
    arrays: Arrays = {}
    for seed, size in enumerate(sizes):
        pixels = images(seed, size)
        arrays[key("images", size)] = pixels
        arrays |= {key(name, size): value for name, value in run(model, pixels, outputs).items()}
    return arrays


def run(model: Any, pixels: Any, outputs: Outputs) -> Arrays:
    torch = importlib.import_module("torch")
    x = torch.from_numpy(np.ascontiguousarray(model_input(pixels).transpose(0, 3, 1, 2)))
    with torch.no_grad():
        found = outputs(model.double() if hasattr(model, "double") else model, x)
    assert all(value.dtype == torch.float64 for name, value in found.items()), {n: v.dtype for n, v in found.items()}
    return {name: value.detach().numpy() for name, value in found.items()}


@contextlib.contextmanager
def no_float32() -> Iterator[None]:
    """Tensor.float() and Tensor.to(float32) leave float64 alone."""
    torch = importlib.import_module("torch")
    as_float, to = torch.Tensor.float, torch.Tensor.to
    torch.Tensor.float = lambda self: self
    torch.Tensor.to = lambda self, *args, **options: self if args == (torch.float32,) else to(self, *args, **options)
    try:
        yield
    finally:
        torch.Tensor.float, torch.Tensor.to = as_float, to


def prefixed(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {prefix + name: value for name, value in state.items()}


def saver(contents: Any) -> Callable[[Path], None]:
    return lambda path: importlib.import_module("torch").save(contents, path)


def state_of(module: Any) -> dict[str, Any]:
    """A copy of the state dict: the module may become float64 afterwards."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def stepped(optimizer: Any) -> dict[str, Any]:
    """The state dict of an optimizer after one step with gradients of its parameters' own values."""
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # the step makes the state; the parameters stay
        group["weight_decay"] = 0.0
        for parameter in group["params"]:
            parameter.grad = parameter.detach() / 3
    optimizer.step()
    return optimizer.state_dict()
