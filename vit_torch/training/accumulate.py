"""Loss and gradients of a batch that is computed in equal parts, one after the other."""

import torch
from torch import Tensor

from vit_torch.training.draws import Draws
from vit_torch.training.hyper import Hyper
from vit_torch.training.losses import LOSSES, binarised
from vit_torch.training.state import trained_parameters
from vit_torch.vit import ViT


def part(x: Tensor, number: int, parts: int, axis: int = 0) -> Tensor:
    """Rows number, number + parts, number + 2 * parts, ... along an axis."""
    return x[(slice(None),) * axis + (slice(number, None, parts),)]


def gradients(
    model: ViT, x: Tensor, targets: Tensor, draws: Draws, hyper: Hyper
) -> tuple[float, float, dict[str, Tensor]]:
    """(loss, accuracy, gradients by hub name) of an augmented batch: averages over its parts, and so the whole
    batch's, for a loss that is an average over images. Of trained parameters alone."""
    trained, parts = trained_parameters(model, hyper), hyper.accumulate
    loss, accuracy = 0.0, 0.0
    grads = {name: torch.zeros_like(p) for name, p in trained.items()}
    for number in range(parts):
        inputs, wanted = part(x, number, parts), part(targets, number, parts)
        masks = None if draws.drop_path is None else part(draws.drop_path, number, parts, axis=2)
        logits = model(inputs, drop_path=masks, generator=draws.dropout)
        of_part = LOSSES[hyper.loss](logits, binarised(wanted) if hyper.binary_targets else wanted)
        for name, grad in zip(trained, torch.autograd.grad(of_part, list(trained.values())), strict=True):
            grads[name] += grad / parts
        loss += of_part.item() / parts
        accuracy += (logits.argmax(-1) == wanted.argmax(-1)).double().mean().item() / parts
    return loss, accuracy, grads
