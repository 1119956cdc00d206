"""Recipes: each a function that returns a complete TrainConfig; its docstring says what it costs and what it gives."""

from collections.abc import Callable

from train.config import TrainConfig
from train.recipes.digits import digits

RECIPES: dict[str, Callable[[], TrainConfig]] = {"digits": digits}

__all__ = ["RECIPES"]
