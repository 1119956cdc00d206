"""What every real class is run as: float64 images in, float64 outputs out, by its own code in float64 throughout."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from parity_tests.pairs import nchw

Answer = Callable[[np.ndarray], np.ndarray]  # float64 images (B, H, W, C) -> the real class's output, float64


@dataclass(frozen=True)
class Forward:
    """A real class that is here, as an Answer, and what its gradients are."""

    run: Callable[[torch.Tensor], torch.Tensor]  # float64 images (B, C, H, W) -> the output

    def __call__(self, images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.run(nchw(images)).numpy()

    def gradient(self, images: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        """Of sum(output * cotangent), by the images: (B, H, W, C) like them. It comes back through every layer."""
        pixels = nchw(images).requires_grad_()
        (found,) = torch.autograd.grad((self.run(pixels) * torch.tensor(cotangent)).sum(), pixels)
        return found.permute(0, 2, 3, 1).numpy()


@contextmanager
def float_is_double() -> Iterator[None]:
    """Within it `.float()` and `.to(torch.float32)` give float64: peers that resize positions in float32 are exact."""
    own = {"float": torch.Tensor.float, "to": torch.Tensor.to}

    def to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        wide = {torch.float32: torch.float64}
        args = tuple(wide.get(a, a) if isinstance(a, torch.dtype) else a for a in args)
        return own["to"](tensor, *args, **{k: wide.get(v, v) if k == "dtype" else v for k, v in kwargs.items()})

    torch.Tensor.float, torch.Tensor.to = torch.Tensor.double, to  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.float, torch.Tensor.to = own["float"], own["to"]  # type: ignore[method-assign]
