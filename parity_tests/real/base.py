"""What every real class is run as: float64 images in, float64 outputs out, by its own code in float64 throughout."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

Answer = Callable[[np.ndarray], np.ndarray]  # float64 images (B, H, W, C) -> the real class's output, float64


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
