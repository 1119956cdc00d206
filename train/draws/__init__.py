"""All the randomness of a run, from its seed."""

from train.draws.images import EraseDraws, JitterDraws, RandAugmentDraws, ThreeAugmentDraws
from train.draws.step import INIT, Draws, block_rates, draw, init_key, step_key

__all__ = [
    "INIT",
    "Draws",
    "EraseDraws",
    "JitterDraws",
    "RandAugmentDraws",
    "ThreeAugmentDraws",
    "block_rates",
    "draw",
    "init_key",
    "step_key",
]
