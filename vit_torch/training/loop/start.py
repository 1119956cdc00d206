"""The model that a run starts from: random values, or a checkpoint of any layout."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vit_convert.checkpoint import open_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.resolve import in_words_of_a_run, parse_overrides
from vit_convert.roles import decays, role
from vit_torch.training.loop.errors import Refused
from vit_torch.training.loop.recipe import dtype_of
from vit_torch.training.loop.settings import MODEL, Settings, nested
from vit_torch.training.mimetic import mimetic
from vit_torch.vit import ViT

HEADS = ("head.", "head_dist.")
INSIDE = ("blocks.", "pre_logits.")  # kernels between the patches and the head


def start_model(settings: Settings, class_names: tuple[str, ...]) -> ViT:
    """The model of the settings with its first values.

    Raises:
        Refused: no model that there can be, or a checkpoint that can't be read.
    """
    run = {name: settings[name] for name in ("dropout", "attn_dropout", "attention")}
    if settings["init"] is not None:
        return from_checkpoint(settings, class_names, run)
    try:
        config = ViTConfig.from_dict(nested(settings).get(MODEL.rstrip("."), {}))
    except (TypeError, ValueError) as error:
        raise Refused(f"the settings' model: {error}") from error
    generator = torch.Generator().manual_seed(settings["seed"])
    model = ViT(config, generator=generator, **run).to(dtype_of(settings))
    initialise(model, settings, generator)
    if settings["start.mimetic"]:
        if config.pos_embed == "learned" and config.dim % 4:
            raise Refused(f"start.mimetic needs a model.dim divisible by 4 for its waves, got {config.dim}")
        mimetic(model, generator)
    return model


@torch.no_grad()
def initialise(model: ViT, settings: Settings, generator: torch.Generator) -> None:
    """Initial values that a run chooses, where the model's own don't suit it: 0.02 is far below 1/sqrt(64)."""
    for name, param in model.named_parameters():
        if role(name) == "position" and settings["start.pos_embed_std"] is not None:
            param.normal_(std=settings["start.pos_embed_std"], generator=generator)
        elif settings["start.fan_in_kernels"] and name.startswith(INSIDE) and decays(name):
            param.normal_(std=param.shape[1] ** -0.5, generator=generator)  # LeCun et al. 1998, section 4.6
        elif role(name) == "layer_scale" and settings["start.layer_scale"] is not None:
            param.fill_(settings["start.layer_scale"])
        elif name.startswith(HEADS) and (role(name) == "bias" or settings["start.zero_head"]):
            param.fill_(head_value(name, settings))


def head_value(name: str, settings: Settings) -> float:
    """Where a head that begins anew begins."""
    return settings["start.head_bias"] if role(name) == "bias" else 0.0


@torch.no_grad()
def from_checkpoint(settings: Settings, class_names: tuple[str, ...], run: dict[str, Any]) -> ViT:
    """The checkpoint's model at the run's image size. Its head is kept where it answers for the same classes: as many,
    and called the same if both have names; else it begins anew."""
    path = _checkpoint_of(settings["init"])
    try:
        overrides = parse_overrides(settings["init_set"])
        answers: dict[str, Any] = dict(
            image_size=settings["init_size"], preset=settings["init_preset"], overrides=overrides
        )
        found = open_checkpoint(path, **answers)
        as_many = found.config.num_classes == len(class_names)
        classes = None if as_many else len(class_names)
        model = ViT.from_pretrained(path, num_classes=classes, dtype=dtype_of(settings), **answers, **run)
    except (CheckpointError, ValueError) as error:
        raise Refused(in_words_of_a_run(str(error))) from error
    for name, param in model.named_parameters():
        if not param.isfinite().all():
            raise Refused(f"init: {name} has values that are infinite or no number: nothing can be learned from it")
    if not as_many or found.labels not in (None, class_names):
        heads: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if name.startswith(HEADS)}
        for name, param in heads.items():
            param.fill_(head_value(name, settings))
    return model


def _checkpoint_of(init: str) -> str:
    """Of the folder of a run its checkpoint; everything else as it is."""
    inner = Path(init) / "checkpoint"
    return str(inner) if inner.is_dir() else init
