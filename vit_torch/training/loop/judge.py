"""A whole split judged: how often the right class is the first, or among the first five, and the cross-entropy."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from vit_torch.training.augmentation import normalise
from vit_torch.training.hyper import Hyper
from vit_torch.training.loop.data import Split
from vit_torch.training.state import State
from vit_torch.vit import ViT

TOP = 5


def judged_weights(model: ViT, state: State, hyper: Hyper) -> dict[str, Tensor]:
    """The weights that are judged and saved as the checkpoint: the averaged ones, where there are any."""
    params = {name: p.detach() for name, p in model.named_parameters()}
    return params if hyper.ema_decay is None else state.ema


@torch.no_grad()
def judge(
    model: ViT, weights: Mapping[str, Tensor], split: Split, hyper: Hyper, batch_size: int
) -> dict[str, float | int]:
    """What the model with these weights comes to, named as in vit-train's metrics.jsonl."""
    dtype = next(iter(weights.values())).dtype
    loss, correct, top5, count = 0.0, 0, 0, len(split.labels)
    for images, labels in zip(split.images.split(batch_size), split.labels.split(batch_size), strict=True):
        logits = functional_call(model, dict(weights), (normalise(images, hyper, dtype),))
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += int((logits.argmax(-1) == labels).sum())
        best = logits.topk(min(TOP, logits.shape[-1]), dim=-1).indices
        top5 += int((best == labels[:, None]).any(-1).sum())
    return {
        "test_accuracy": correct / count,
        "test_top5": top5 / count,
        "test_loss": loss / count,
        "test_correct": correct,
        "test_count": count,
    }
