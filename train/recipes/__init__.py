"""Recipes: each a function that returns a complete TrainConfig; its docstring says what it costs and what it gives."""

from collections.abc import Callable

from train.config import TrainConfig
from train.recipes.augreg import augreg_b16, augreg_b32, augreg_l16, augreg_s16, augreg_s32
from train.recipes.cifar import cifar10, cifar100
from train.recipes.deit import deit_b, deit_s, deit_ti
from train.recipes.deit3 import deit3_b, deit3_l, deit3_s
from train.recipes.digits import digits
from train.recipes.fashion_mnist import fashion_mnist
from train.recipes.finetune import finetune, linear_probe
from train.recipes.simple_vit import simple_vit_s16_i1k

Recipe = Callable[[], TrainConfig]

SMALL: tuple[Recipe, ...] = (digits, fashion_mnist, cifar10, cifar100)
FROM_A_CHECKPOINT: tuple[Recipe, ...] = (finetune, linear_probe)
IMAGENET: tuple[Recipe, ...] = (
    simple_vit_s16_i1k,
    *(augreg_s32, augreg_s16, augreg_b32, augreg_b16, augreg_l16),
    *(deit_ti, deit_s, deit_b),
    *(deit3_s, deit3_b, deit3_l),
)
RECIPES: dict[str, Recipe] = {recipe.__name__: recipe for recipe in (*SMALL, *FROM_A_CHECKPOINT, *IMAGENET)}

__all__ = ["FROM_A_CHECKPOINT", "IMAGENET", "RECIPES", "SMALL"]
