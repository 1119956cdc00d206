"""The learning rate by step: linear warmup, then a cosine."""

from math import cos, pi

from vit_torch.training.hyper import Hyper


def learning_rate(step: int, hyper: Hyper) -> float:
    """Linear warmup from 0, then a cosine (Loshchilov & Hutter 2017, eq. 5) down to final_fraction of the peak."""
    if step < hyper.warmup_steps:
        return hyper.learning_rate * step / hyper.warmup_steps
    progress = min(1.0, (step - hyper.warmup_steps) / max(1, hyper.total_steps - hyper.warmup_steps))
    fraction = hyper.final_fraction + (1 - hyper.final_fraction) * 0.5 * (1 + cos(pi * progress))
    return hyper.learning_rate * fraction
