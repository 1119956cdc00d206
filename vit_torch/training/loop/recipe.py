"""What a run's settings mean to its step: Hyper, how its draws fall, how long it is, what is frozen."""

from collections.abc import Sequence

import torch

from vit_torch.training.frozen import frozen_names
from vit_torch.training.hyper import Hyper
from vit_torch.training.loop.drawing import Chances
from vit_torch.training.loop.errors import Refused
from vit_torch.training.loop.settings import Settings


def make_hyper(
    settings: Settings, *, mean: tuple[float, ...], std: tuple[float, ...], warmup_steps: int, total_steps: int
) -> Hyper:
    """The numbers of the step."""
    of = {name.removeprefix("optimizer."): value for name, value in settings.items() if name.startswith("optimizer.")}
    return Hyper(
        mean=mean,
        std=std,
        padding=settings["augment.padding"],
        label_smoothing=settings["augment.label_smoothing"],
        loss=settings["loss"],
        binary_targets=settings["binary_targets"],
        accumulate=of["accumulate"],
        frozen=tuple(of["frozen"]),
        clip_norm=of["clip_norm"],
        learning_rate=settings["schedule.learning_rate"],
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        final_fraction=settings["schedule.final_fraction"],
        layer_decay=of["layer_decay"],
        rule=of["name"],
        weight_decay=of["weight_decay"],
        decay_times_peak=of["decay_times_peak"],
        beta1=of["beta1"],
        beta2=of["beta2"],
        eps=of["eps"],
        nesterov=of["nesterov"],
        ema_decay=settings["ema_decay"],
    )


def make_chances(settings: Settings) -> Chances:
    """How the draws of its steps fall."""
    return Chances(
        padding=settings["augment.padding"],
        flip=settings["augment.flip"],
        mixup_alpha=settings["augment.mixup_alpha"],
        cutmix_alpha=settings["augment.cutmix_alpha"],
        cutmix_share=settings["augment.cutmix_share"],
        mix_share=settings["augment.mix_share"],
        drop_path=settings["drop_path"],
        drop_path_schedule=settings["drop_path_schedule"],
        dropout=settings["dropout"] > 0 or settings["attn_dropout"] > 0,
    )


def steps_per_epoch(settings: Settings, num_examples: int) -> int:
    """Whole batches in one pass over the training images.

    Raises:
        Refused: not even one.
    """
    batch_size = settings["batch_size"]
    if num_examples < batch_size:
        raise Refused(f"batch_size {batch_size} is more than the {num_examples} training images")
    return num_examples // batch_size


def total_steps(settings: Settings, num_examples: int) -> int:
    """How many updates the run makes."""
    return settings["steps"] or max(1, round(settings["epochs"] * steps_per_epoch(settings, num_examples)))


def warmup_steps(settings: Settings, num_examples: int) -> int:
    """How many of them warm up: never more than the run has."""
    wanted = round(settings["schedule.warmup_epochs"] * steps_per_epoch(settings, num_examples))
    return min(wanted, total_steps(settings, num_examples))


def dtype_of(settings: Settings) -> torch.dtype:
    """Of the parameters and of everything that is computed from them."""
    return torch.float64 if settings["dtype"] == "float64" else torch.float32


def check_frozen(patterns: Sequence[str], names: Sequence[str]) -> None:
    """
    Raises:
        Refused: a pattern that matches no parameter, or nothing is left to train.
    """
    idle = [pattern for pattern in patterns if not frozen_names([pattern.removeprefix("!")], names)]
    if idle:
        raise Refused(f"optimizer.frozen: no parameter is called {', '.join(idle)}; names are such as {names[0]}")
    if frozen_names(patterns, names) == set(names):
        raise Refused("optimizer.frozen leaves nothing to train; take out, say, '!head.*'")
