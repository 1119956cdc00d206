"""The Flax trainer: `vit-train RECIPE --workdir DIR`. It never imports torch, and jax only when a run begins."""

from train.config import TrainConfig

__all__ = ["TrainConfig"]
