"""nnx.Linear as this package uses it. mirror: torch.nn.Linear has no file of its own."""

from typing import Any

from flax import nnx
from jax import Array

from vit_flax.sums import add


class Linear(nnx.Linear):
    """(..., dim) -> (..., width). Zeros for now: vit_flax.init gives every initial value."""

    def __init__(self, dim: int, width: int, *, use_bias: bool = True, rngs: nnx.Rngs, dtype: Any, param_dtype: Any):
        zeros, of = nnx.initializers.zeros_init(), dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        super().__init__(dim, width, use_bias=use_bias, kernel_init=zeros, **of)

    def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
        """One matrix product over all leading axes together: XLA's CPU backend is far faster at it."""
        x = inputs.reshape(-1, inputs.shape[-1]).astype(self.dtype)
        x = x @ self.kernel.get_value().astype(self.dtype)
        if self.bias is not None:
            x = add(x, self.bias.get_value())
        return x.reshape(*inputs.shape[:-1], x.shape[-1])
