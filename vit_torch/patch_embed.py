"""Images to patch tokens (Dosovitskiy et al. 2021, eq. 1). The only file that knows the image layout."""

from torch import Tensor, nn

from vit_convert.config import ViTConfig, grid_of
from vit_torch.norm import make_norm


class PatchEmbed(nn.Module):
    """A linear map of each patch, normed in AIMv2 (Fini et al. 2024): (B, C, H, W) -> (B, N, D), row by row."""

    def __init__(self, config: ViTConfig, *, dynamic_size: bool = False):
        super().__init__()
        self.image_size = config.image_hw
        self.patch_size = config.patch_hw
        self.in_channels = config.in_channels
        self.dynamic_size = dynamic_size
        self.proj = nn.Conv2d(
            config.in_channels, config.dim, kernel_size=config.patch_hw, stride=config.patch_hw, bias=config.patch_bias
        )
        self.norm = make_norm(config, config.dim) if config.patch_norm else nn.Identity()

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        grid = self.check(images)
        x = self.proj(images.to(self.proj.weight.dtype))
        return self.norm(x.flatten(2).transpose(1, 2)), grid

    def check(self, images: Tensor) -> tuple[int, int]:
        """(rows, columns) of patches in these images; ValueError if the model doesn't take them."""
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            raise ValueError(f"images must be (B, {self.in_channels}, H, W), got {tuple(images.shape)}")
        if not images.is_floating_point():
            raise ValueError(f"images must be floating point, normalised as the model expects, got {images.dtype}")
        size = (images.shape[2], images.shape[3])
        if not self.dynamic_size and size != self.image_size:  # a size may be a symbol: compared last
            raise ValueError(
                f"images are {size[0]}x{size[1]}, the model was made for {self.image_size[0]}x{self.image_size[1]}; "
                "resize them, or make the model with dynamic_size=True"
            )
        return grid_of(size, self.patch_size)
