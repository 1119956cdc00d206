"""The train step, stated in PyTorch: the specification that `train` must equal.

Plain formulas, one function each, in the order in which a step uses them. No formula draws a random
number: `Draws` holds all the randomness of one step. The loop at the end shows that it trains:

    python -m vit_torch.training

Legend: B images, C channels, (H, W) their size, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, pi

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vit_convert.config import ViTConfig
from vit_convert.roles import decays
from vit_torch import ViT


@dataclass(frozen=True, kw_only=True)
class Hyper:
    """The numbers of a run that the step needs."""

    mean: tuple[float, ...]  # of the pixels, in 0..1, a channel each
    std: tuple[float, ...]
    learning_rate: float  # at its peak
    warmup_steps: int
    total_steps: int
    final_fraction: float  # of the peak, reached at total_steps
    weight_decay: float  # times the learning rate
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    padding: int = 0  # pixels around the image before the shifted crop
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    ema_decay: float | None = None


@dataclass(frozen=True, kw_only=True)
class Draws:
    """All the randomness of one step.

    MixUp with lam = 1 is no mixing. `box` is read only with use_cutmix, and then decides lam.
    """

    corner: Tensor  # (B, 2) integers in 0..2 * padding: where the crop begins in the padded image
    flip: Tensor  # (B,) booleans: mirror left and right
    use_cutmix: bool  # CutMix for this batch, else MixUp
    lam: float  # the share of an image that stays its own, in 0..1
    box: tuple[int, int, int, int]  # top, bottom, left, right of the pasted rectangle; ends excluded
    partner: Tensor  # (B,) a permutation: what each image is mixed with
    drop_path: Tensor | None = None  # (depth, 2, B): 0 or 1 / keep for the two branches of each block
    dropout: torch.Generator | None = None


@dataclass
class State:
    """What a step updates, beside the model's parameters. All by hub name."""

    step: int
    mu: dict[str, Tensor]
    nu: dict[str, Tensor]
    ema: dict[str, Tensor]


def init_state(model: ViT) -> State:
    """Moments of zero, and the EMA at the initial parameters."""
    params = {name: p.detach() for name, p in model.named_parameters()}
    zeros = {name: torch.zeros_like(p) for name, p in params.items()}
    return State(0, zeros, {k: z.clone() for k, z in zeros.items()}, {k: p.clone() for k, p in params.items()})


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


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-sum_k t_k log softmax(logits)_k, averaged over the batch: (B, K), (B, K) -> ()."""
    return -(targets * F.log_softmax(logits, dim=-1)).sum(-1).mean()


def augment(images: Tensor, labels: Tensor, draws: Draws, hyper: Hyper, num_classes: int, dtype: torch.dtype):
    """uint8 (B, C, H, W) and labels (B,) -> model input (B, C, H, W) and soft targets (B, K)."""
    x = normalise(flip(shift(images, draws.corner, hyper.padding), draws.flip), hyper, dtype)
    x = cutmix(x, draws.partner, draws.box) if draws.use_cutmix else mixup(x, draws.partner, draws.lam)
    lam = cutmix_lam(draws.box, *images.shape[-2:]) if draws.use_cutmix else draws.lam
    targets = smooth_one_hot(labels, num_classes, hyper.label_smoothing, dtype)
    return x, mixup(targets, draws.partner, lam)


def global_norm(grads: Mapping[str, Tensor]) -> Tensor:
    """The Euclidean norm of all gradients taken as one vector."""
    return torch.stack([g.square().sum() for g in grads.values()]).sum().sqrt()


def clip(grads: Mapping[str, Tensor], max_norm: float) -> dict[str, Tensor]:
    """Pascanu et al. 2013, algorithm 1, as torch.nn.utils.clip_grad_norm_: with 1e-6 beside the norm."""
    factor = (max_norm / (global_norm(grads) + 1e-6)).clamp(max=1.0)
    return {name: g * factor for name, g in grads.items()}


def learning_rate(step: int, hyper: Hyper) -> float:
    """Linear warmup from 0, then a cosine (Loshchilov & Hutter 2017, eq. 5) down to final_fraction of the peak."""
    if step < hyper.warmup_steps:
        return hyper.learning_rate * step / hyper.warmup_steps
    progress = min(1.0, (step - hyper.warmup_steps) / max(1, hyper.total_steps - hyper.warmup_steps))
    fraction = hyper.final_fraction + (1 - hyper.final_fraction) * 0.5 * (1 + cos(pi * progress))
    return hyper.learning_rate * fraction


def adamw(name: str, param: Tensor, grad: Tensor, state: State, lr: float, hyper: Hyper) -> Tensor:
    """Loshchilov & Hutter 2019, algorithm 2, as torch.optim.AdamW: decay times lr. Returns the new parameter."""
    t = state.step + 1
    mu = state.mu[name] = hyper.beta1 * state.mu[name] + (1 - hyper.beta1) * grad
    nu = state.nu[name] = hyper.beta2 * state.nu[name] + (1 - hyper.beta2) * grad.square()
    direction = (mu / (1 - hyper.beta1**t)) / ((nu / (1 - hyper.beta2**t)).sqrt() + hyper.eps)
    decay = hyper.weight_decay if decays(name) else 0.0
    return param - lr * (direction + decay * param)


def ema(average: Tensor, param: Tensor, decay: float) -> Tensor:
    """Polyak averaging with forgetting, of the parameters after the update (timm/utils/model_ema.py)."""
    return decay * average + (1 - decay) * param


def train_step(
    model: ViT, state: State, images: Tensor, labels: Tensor, draws: Draws, hyper: Hyper
) -> dict[str, float]:
    """One step, in place, on images uint8 (B, C, H, W) and labels (B,): loss, accuracy, grad_norm, learning_rate.

    Accuracy counts the class with the most weight in the mixed target.
    """
    params = dict(model.named_parameters())
    dtype = next(iter(params.values())).dtype
    x, targets = augment(images, labels, draws, hyper, model.config.num_classes, dtype)
    logits = model(x, drop_path=draws.drop_path, generator=draws.dropout)
    loss = soft_cross_entropy(logits, targets)
    grads = dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))
    norm, lr = global_norm(grads), learning_rate(state.step, hyper)
    if hyper.clip_norm is not None:
        grads = clip(grads, hyper.clip_norm)
    with torch.no_grad():
        for name, param in params.items():
            param.copy_(adamw(name, param, grads[name], state, lr, hyper))
            if hyper.ema_decay is not None:
                state.ema[name] = ema(state.ema[name], param, hyper.ema_decay)
    state.step += 1
    accuracy = (logits.argmax(-1) == targets.argmax(-1)).double().mean()
    return {"loss": loss.item(), "accuracy": accuracy.item(), "grad_norm": norm.item(), "learning_rate": lr}


# What follows is no specification, only a use of it: scikit-learn's digits, in two minutes or so.


def draw(rng: np.random.Generator, B: int, H: int, W: int, padding: int, depth: int, drop_path: float) -> Draws:
    """One step's draws: CutMix or MixUp (a quarter each) or neither; stochastic depth, the more the deeper."""
    kind = rng.choice(["cutmix", "mixup", "none"], p=[0.25, 0.25, 0.5])
    lam = {"cutmix": rng.beta(1.0, 1.0), "mixup": rng.beta(0.2, 0.2), "none": 1.0}[kind]
    (h, w), (y, x) = (int(n * (1 - lam) ** 0.5) for n in (H, W)), (int(rng.integers(n)) for n in (H, W))
    box = (max(0, y - h // 2), min(H, y + (h + 1) // 2), max(0, x - w // 2), min(W, x + (w + 1) // 2))
    keep = 1 - np.linspace(0, drop_path, depth)[:, None, None]
    return Draws(
        corner=torch.tensor(rng.integers(0, 2 * padding + 1, (B, 2))),
        flip=torch.zeros(B, dtype=torch.bool),  # a mirrored 2 is no 2
        use_cutmix=kind == "cutmix",
        lam=lam,
        box=box,
        partner=torch.tensor(rng.permutation(B)),
        drop_path=torch.tensor((rng.random((depth, 2, B)) < keep) / keep, dtype=torch.float32),
    )


def narrow_start(model: ViT, generator: torch.Generator) -> ViT:
    """Larger initial values than 0.02, which is far below 1/sqrt(64): LeCun et al. 1998, section 4.6."""
    with torch.no_grad():
        for name, param in model.named_parameters():
            if name == "pos_embed":
                param.normal_(std=0.5, generator=generator)
            elif name.startswith("blocks.") and decays(name):
                param.normal_(std=param.shape[1] ** -0.5, generator=generator)
    return model


def main(steps: int = 990, batch: int = 64, seed: int = 0) -> None:
    """Trains a small ViT on four fifths of the digits and prints its accuracy on the rest."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(np.rint(pixels * (255 / 16)), dtype=torch.uint8).reshape(-1, 1, 8, 8)
    train, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0)
    rng, labels = np.random.default_rng(seed), torch.tensor(labels)
    config = ViTConfig(
        image_size=8, patch_size=2, in_channels=1, dim=64, depth=4, num_heads=4, mlp_dim=256, num_classes=10
    )
    hyper = Hyper(
        mean=(0.3053,),
        std=(0.3761,),
        learning_rate=2e-3,
        warmup_steps=steps // 10,
        total_steps=steps,
        final_fraction=0.0,
        weight_decay=0.05,
        label_smoothing=0.1,
        clip_norm=1.0,
        ema_decay=0.99,
    )
    generator = torch.Generator().manual_seed(seed)
    model = narrow_start(ViT(config, generator=generator), generator)
    state = init_state(model)
    for step in range(steps):
        chosen = torch.tensor(rng.choice(train, batch, replace=False))
        draws = draw(rng, batch, 8, 8, hyper.padding, config.depth, drop_path=0.1)
        metrics = train_step(model, state, images[chosen], labels[chosen], draws, hyper)
        if step % 100 == 99:
            print(f"step {step + 1}/{steps}  " + "  ".join(f"{k} {v:.4f}" for k, v in metrics.items()), flush=True)
    model.load_state_dict(state.ema, strict=True)
    with torch.no_grad():
        logits = model(normalise(images[test], hyper, torch.float32))
    print(f"held out: {(logits.argmax(-1) == labels[test]).double().mean():.2%} of {len(test)}, EMA weights")


if __name__ == "__main__":
    main()
