"""What every real class is run as: float64 images in, float64 outputs out, by its own code in float64 throughout."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from parity_tests.pairs import nchw

Answer = Callable[[np.ndarray], np.ndarray]  # float64 images (B, H, W, C) -> the real class's output, float64


@dataclass(frozen=True)
class Forward:
    """A real class that is here, as an Answer, and what its gradients are."""

    run: Callable[[torch.Tensor], torch.Tensor]  # float64 images (B, C, H, W) -> the output
    plain: Callable[[Any, torch.Tensor], torch.Tensor]  # (a copy of it in any dtype, images in it) -> the output

    def __call__(self, images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.run(nchw(images)).numpy()

    def rounded(self, model: torch.nn.Module, images: np.ndarray, dtype: torch.dtype) -> np.ndarray:
        """The output of a copy of the class in a dtype that rounds, as it comes; float64. The copy is cast in place."""
        with torch.no_grad():
            return self.plain(model.to(dtype), nchw(images).to(dtype)).double().numpy()

    def gradients(
        self, images: np.ndarray, cotangent: np.ndarray, params: Sequence[torch.Tensor]
    ) -> tuple[np.ndarray, list[torch.Tensor]]:
        """Of sum(output * cotangent): by the images, (B, H, W, C) like them, and by parameters of the class; zeros of
        those that the output doesn't depend on."""
        pixels = nchw(images).requires_grad_()
        loss = (self.run(pixels) * torch.tensor(cotangent)).sum()
        of_images, *found = torch.autograd.grad(loss, [pixels, *params], allow_unused=True)
        grads = [torch.zeros_like(p) if grad is None else grad for p, grad in zip(params, found, strict=True)]
        return of_images.permute(0, 2, 3, 1).numpy(), grads


@contextmanager
def float_is_double() -> Iterator[None]:
    """Within it `.float()`, `.to(torch.float32)` and a softmax in float32 give float64: peers that resize positions or
    attend so are exact."""
    own = {"float": torch.Tensor.float, "to": torch.Tensor.to, "softmax": F.softmax}

    def widened(name: str) -> Callable[..., torch.Tensor]:
        def call(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            wide = {torch.float32: torch.float64}
            args = tuple(wide.get(a, a) if isinstance(a, torch.dtype) else a for a in args)
            return own[name](tensor, *args, **{k: wide.get(v, v) if k == "dtype" else v for k, v in kwargs.items()})

        return call

    torch.Tensor.float, torch.Tensor.to = torch.Tensor.double, widened("to")  # type: ignore[method-assign]
    F.softmax = widened("softmax")
    try:
        yield
    finally:
        torch.Tensor.float, torch.Tensor.to = own["float"], own["to"]  # type: ignore[method-assign]
        F.softmax = own["softmax"]
