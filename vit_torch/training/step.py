"""The step itself: what the formulas of this package come to, in order."""

import torch
from torch import Tensor

from vit_torch.training.accumulate import gradients
from vit_torch.training.augmentation import augment
from vit_torch.training.averaging import ema
from vit_torch.training.clipping import clip, global_norm
from vit_torch.training.draws import Draws
from vit_torch.training.hyper import Hyper
from vit_torch.training.layers import layer_rate
from vit_torch.training.rules import RULES
from vit_torch.training.schedule import learning_rate
from vit_torch.training.state import State
from vit_torch.vit import ViT


def train_step(
    model: ViT, state: State, images: Tensor, labels: Tensor, draws: Draws, hyper: Hyper
) -> dict[str, float]:
    """One step, in place, on images uint8 (B, C, H, W) and labels (B,): loss, accuracy, grad_norm, learning_rate.

    B is a multiple of hyper.accumulate. Accuracy counts the class with the most weight in the mixed target.
    """
    params, config = dict(model.named_parameters()), model.config
    dtype = next(iter(params.values())).dtype
    x, targets = augment(images, labels, draws, hyper, config.num_classes, dtype)
    loss, accuracy, grads = gradients(model, x, targets, draws, hyper)
    norm, lr = global_norm(grads), learning_rate(state.step, hyper)
    if hyper.clip_norm is not None:
        grads = clip(grads, hyper.clip_norm)
    with torch.no_grad():
        for name, grad in grads.items():
            param, rate = params[name], lr * layer_rate(name, config.depth, hyper.layer_decay)
            param.copy_(RULES[hyper.rule](name, param, grad, state, rate, hyper))
            if hyper.ema_decay is not None:
                state.ema[name] = ema(state.ema[name], param, hyper.ema_decay)
    state.step += 1
    return {"loss": loss, "accuracy": accuracy, "grad_norm": norm.item(), "learning_rate": lr}
