"""From a batch's pixels and labels to the model's input and soft targets: shift, flip, normalise, MixUp, CutMix."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vit_torch.training.draws import Draws
from vit_torch.training.hyper import Hyper


def shift(images: Tensor, corner: Tensor, padding: int) -> Tensor:
    """A crop of the zero-padded image (He et al. 2016, section 4.2; torchvision RandomCrop): (B, C, H, W) -> same."""
    H, W = images.shape[-2:]
    padded = F.pad(images, (padding,) * 4)
    crops = [
        image[:, top : top + H, left : left + W] for image, (top, left) in zip(padded, corner.tolist(), strict=True)
    ]
    return torch.stack(crops)


def flip(images: Tensor, flips: Tensor) -> Tensor:
    """Left and right exchanged where flips (B,) is true: (B, C, H, W) -> same."""
    return torch.where(flips[:, None, None, None], images.flip(-1), images)


def normalise(images: Tensor, hyper: Hyper, dtype: torch.dtype) -> Tensor:
    """uint8 (B, C, H, W) -> (pixel / 255 - mean) / std."""
    mean, std = (torch.tensor(v, dtype=dtype)[:, None, None] for v in (hyper.mean, hyper.std))
    return (images.to(dtype) / 255 - mean) / std


def mixup(x: Tensor, partner: Tensor, lam: float) -> Tensor:
    """Zhang et al. 2018, section 2: lam x_i + (1 - lam) x_j. Of images and of targets."""
    return lam * x + (1 - lam) * x[partner]


def cutmix(images: Tensor, partner: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """Yun et al. 2019, eq. 1: the box is pasted from the partner: (B, C, H, W) -> same."""
    top, bottom, left, right = box
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
    return mixed


def cutmix_lam(box: tuple[int, int, int, int], H: int, W: int) -> float:
    """The share that stayed, by area: the border may have cut the box (clovaai/CutMix-PyTorch; timm/data/mixup.py)."""
    top, bottom, left, right = box
    return 1 - (bottom - top) * (right - left) / (H * W)


def smooth_one_hot(labels: Tensor, num_classes: int, smoothing: float, dtype: torch.dtype) -> Tensor:
    """Szegedy et al. 2016, section 7: (1 - eps) one-hot + eps / K: (B,) -> (B, K)."""
    return (1 - smoothing) * F.one_hot(labels, num_classes).to(dtype) + smoothing / num_classes


def augment(images: Tensor, labels: Tensor, draws: Draws, hyper: Hyper, num_classes: int, dtype: torch.dtype):
    """uint8 (B, C, H, W) and labels (B,) -> model input (B, C, H, W) and soft targets (B, K)."""
    x = normalise(flip(shift(images, draws.corner, hyper.padding), draws.flip), hyper, dtype)
    x = cutmix(x, draws.partner, draws.box) if draws.use_cutmix else mixup(x, draws.partner, draws.lam)
    lam = cutmix_lam(draws.box, *images.shape[-2:]) if draws.use_cutmix else draws.lam
    targets = smooth_one_hot(labels, num_classes, hyper.label_smoothing, dtype)
    return x, mixup(targets, draws.partner, lam)
