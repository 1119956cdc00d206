"""Recipes are what their papers and repositories say: the models, and the numbers that decide a run."""

import pytest

from train.recipes import IMAGENET, RECIPES
from vit_convert.presets import get_preset

# Recipe -> the preset whose model it trains, and what the recipe changes of it.
MODELS = {
    "augreg_s32": ("vit_small_patch32_224", {"act": "gelu_tanh", "pre_logits": 384}),
    "augreg_s16": ("vit_small_patch16_224", {"act": "gelu_tanh", "pre_logits": 384}),
    "augreg_b32": ("vit_base_patch32_224", {"act": "gelu_tanh", "pre_logits": 768}),
    "augreg_b16": ("vit_base_patch16_224", {"act": "gelu_tanh", "pre_logits": 768}),
    "augreg_l16": ("vit_large_patch16_224", {"act": "gelu_tanh", "pre_logits": 1024}),
    "deit_ti": ("deit_tiny_patch16_224", {}),
    "deit_s": ("deit_small_patch16_224", {}),
    "deit_b": ("deit_base_patch16_224", {}),
    "deit3_s": ("deit3_small_patch16_224", {}),
    "deit3_b": ("deit3_base_patch16_224", {"image_size": 192}),
    "deit3_l": ("deit3_large_patch16_224", {"image_size": 192}),
    "simple_vit_s16_i1k": (
        "vit_small_patch16_224",
        {
            "class_token": False, "pos_prefix": "none", "pos_embed": "sincos2d", "pool": "mean", "pre_logits": 384,
            "act": "gelu_tanh",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("recipe", [recipe.__name__ for recipe in IMAGENET])
def test_a_recipe_trains_the_model_that_it_names(recipe: str):
    preset, changes = MODELS[recipe]
    assert RECIPES[recipe]().model == get_preset(preset).config.replace(**changes)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_what_it_costs_and_gives(recipe: str):
    said = RECIPES[recipe].__doc__ or ""
    for word in (f"Command: `vit-train {recipe} ", "Cost:", "Result:", "Reference:"):
        assert word in said
    assert "\n" not in said.splitlines()[0]
    assert len(said.splitlines()[0]) < 80
