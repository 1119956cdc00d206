"""Images to patch tokens (Dosovitskiy et al. 2021, eq. 1). The only file that knows the image layout."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from vit_convert.config import ViTConfig, grid_of
from vit_flax.norm import make_norm
from vit_flax.sums import add


class PatchEmbed(nnx.Module):
    """A linear map of each patch, normed in AIMv2 (Fini et al. 2024): (B, H, W, C) -> (B, N, D), row by row."""

    def __init__(self, config: ViTConfig, *, dynamic_size: bool = False, rngs: nnx.Rngs, dtype: Any, param_dtype: Any):
        self.image_size = config.image_hw
        self.patch_size = config.patch_hw
        self.in_channels = config.in_channels
        self.dynamic_size = dynamic_size
        self.dtype = dtype
        self.proj = nnx.Conv(
            config.in_channels,
            config.dim,
            kernel_size=config.patch_hw,
            strides=config.patch_hw,
            padding="VALID",
            use_bias=config.patch_bias,
            kernel_init=nnx.initializers.zeros_init(),
            dtype=dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        of: dict[str, Any] = dict(rngs=rngs, dtype=dtype, param_dtype=param_dtype)
        self.norm = make_norm(config, config.dim, **of) if config.patch_norm else jax.nn.identity

    def __call__(self, images: Array) -> tuple[Array, tuple[int, int]]:
        grid = self.check(images)
        # mirror: torch's strided convolution, as the one matrix product that it is
        (rows, columns), (height, width), channels = grid, self.patch_size, self.in_channels
        x = images.astype(self.dtype).reshape(images.shape[0], rows, height, columns, width, channels)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, height * width * channels)
        kernel = self.proj.kernel.get_value().astype(self.dtype)
        x = x @ kernel.reshape(-1, kernel.shape[-1])
        if self.proj.bias is not None:
            x = add(x, self.proj.bias.get_value())
        return self.norm(x.reshape(images.shape[0], rows * columns, x.shape[-1])), grid

    def check(self, images: Array) -> tuple[int, int]:
        """(rows, columns) of patches in these images; ValueError if the model doesn't take them."""
        if images.ndim != 4 or images.shape[3] != self.in_channels:
            raise ValueError(f"images must be (B, H, W, {self.in_channels}), got {tuple(images.shape)}")
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(f"images must be floating point, normalised as the model expects, got {images.dtype}")
        size = (images.shape[1], images.shape[2])
        if size != self.image_size and not self.dynamic_size:
            raise ValueError(
                f"images are {size[0]}x{size[1]}, the model was made for {self.image_size[0]}x{self.image_size[1]}; "
                "resize them, or make the model with dynamic_size=True"
            )
        return grid_of(size, self.patch_size)
