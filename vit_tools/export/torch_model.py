"""The PyTorch model that is exported: images as the target takes them, one output."""

from typing import Any

from vit_tools.export.base import Asked


def torch_model(asked: Asked) -> tuple[Any, Any, dict[int, Any]]:
    """(module, example images (2, C, H, W), dynamic axes of them) in the dtype that is asked for.

    Logits come out in float32, whatever it computes in.
    """
    import torch

    from vit_torch import ViT

    dtype = getattr(torch, asked.dtype)
    height, width = asked.size
    model = ViT.from_pretrained(asked.path, **asked.how, dtype=dtype, dynamic_size=asked.resized)

    class Exported(torch.nn.Module):
        """Takes float32 images and gives float32 logits."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.model(images.to(dtype)).float()

    axes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if asked.dynamic_size:  # an example whose sizes are not one another's, nor the model's own
        p, q = model.config.patch_hw
        height, width = height + 3 * p, width + 4 * q
        axes |= {2: p * torch.export.Dim("rows", min=2), 3: q * torch.export.Dim("columns", min=2)}
    return Exported().eval(), torch.zeros(2, asked.channels, height, width), axes
