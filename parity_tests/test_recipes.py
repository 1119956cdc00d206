"""Recipes are what their papers and repositories say: the models, and the numbers that decide a run."""

import json
import re
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

import vit_torch
from parity_tests.photographs import photograph
from parity_tests.tolerances import EXACT
from train.__main__ import Command, main, parse
from train.flops import train_flops
from train.recipes import FROM_A_CHECKPOINT, IMAGENET, RECIPES
from vit_convert.config import ViTConfig
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


# What the originals train with, read from their own code: DeiT's main.py (its defaults, with a learning rate for 512
# images), README_revenge.md's commands, big_vision's configs (that of AugReg at 8921d51), SPT_LSA_ViT's main.py (whose
# sampler makes an epoch of three passes), MAE's FINETUNE.md and DINO's eval_linear.py, as far as they are followed.
DEIT = {
    "batch_size": 1024, "epochs": 300, "loss": "softmax", "dropout": 0.0, "drop_path": 0.1, "data.repeats": 3,
    "drop_path_schedule": "linear", "optimizer.name": "adamw", "optimizer.weight_decay": 0.05,
    "optimizer.clip_norm": None, "optimizer.eps": 1e-8, "optimizer.beta1": 0.9, "optimizer.beta2": 0.999,
    "schedule.learning_rate": 5e-4 * 1024 / 512, "schedule.warmup_epochs": 5, "augment.mixup_alpha": 0.8,
    "augment.cutmix_alpha": 1.0, "augment.cutmix_share": 0.5, "augment.mix_share": 1.0,
    "augment.label_smoothing": 0.1, "augment.erase_prob": 0.25, "augment.rand_augment_layers": 2,
    "augment.rand_augment_magnitude": 9, "augment.rand_augment_std": 0.5,
}  # fmt: skip
DEIT3 = {
    "batch_size": 2048, "epochs": 800, "loss": "sigmoid", "binary_targets": True, "data.repeats": 3,
    "drop_path_schedule": "constant", "start.layer_scale": 1e-4, "optimizer.name": "lamb",
    "optimizer.weight_decay": 0.05, "schedule.warmup_epochs": 5, "augment.mixup_alpha": 0.8,
    "augment.cutmix_alpha": 1.0, "augment.label_smoothing": 0.0, "augment.erase_prob": 0.0,
    "augment.three_augment": True, "augment.color_jitter": 0.3, "augment.rand_augment_layers": 0,
    "data.eval_crop": 1.0,
}  # fmt: skip
BIG_VISION = {
    "optimizer.name": "adamw", "optimizer.weight_decay": 1e-4, "optimizer.decay_times_peak": False,
    "optimizer.clip_norm": 1.0, "optimizer.beta1": 0.9, "optimizer.beta2": 0.999, "schedule.learning_rate": 1e-3,
    "augment.rand_augment_layers": 2, "augment.rand_augment_std": 0, "loss": "softmax", "drop_path": 0.0,
    "data.min_area": 0.05, "data.train_split": "train[:99%]", "data.repeats": 1,
}  # fmt: skip
MEDIUM2 = {
    **BIG_VISION, "batch_size": 4096, "epochs": 300, "augment.mixup_alpha": 0.5, "augment.rand_augment_magnitude": 15,
}  # fmt: skip
CIFAR = {
    "batch_size": 128, "epochs": 3 * 100, "loss": "softmax", "drop_path": 0.1, "drop_path_schedule": "constant",
    "data.repeats": 1, "optimizer.name": "adamw", "optimizer.weight_decay": 0.05, "optimizer.clip_norm": None,
    "schedule.learning_rate": 1e-3, "schedule.warmup_epochs": 3 * 10, "schedule.final_fraction": 1e-6 / 1e-3,
    "augment.padding": 4, "augment.flip": True, "augment.mixup_alpha": 1.0, "augment.cutmix_alpha": 1.0,
    "augment.cutmix_share": 0.5, "augment.mix_share": 0.5, "augment.erase_prob": 0.25, "augment.label_smoothing": 0.1,
    "model.dim": 192, "model.depth": 9, "model.num_heads": 12, "model.mlp_dim": 2 * 192, "model.qkv_bias": "none",
}  # fmt: skip
NUMBERS = {
    "cifar10": CIFAR, "cifar100": CIFAR,
    "finetune": {
        "optimizer.name": "adamw", "optimizer.weight_decay": 0.05, "optimizer.layer_decay": 0.75, "drop_path": 0.1,
        "schedule.learning_rate": 5e-4, "augment.label_smoothing": 0.1, "ema_decay": None,
    },
    "linear_probe": {
        "optimizer.name": "sgd", "optimizer.weight_decay": 0.0, "optimizer.beta1": 0.9, "optimizer.nesterov": False,
        "optimizer.clip_norm": None, "optimizer.frozen": ("*", "!head*"), "augment.flip": True, "ema_decay": None,
    },
    "deit_ti": DEIT, "deit_s": DEIT, "deit_b": DEIT,
    "deit3_s": {**DEIT3, "schedule.learning_rate": 4e-3, "drop_path": 0.05},
    "deit3_b": {**DEIT3, "schedule.learning_rate": 3e-3, "drop_path": 0.2},
    "deit3_l": {**DEIT3, "schedule.learning_rate": 3e-3, "drop_path": 0.45},
    "simple_vit_s16_i1k": {
        **BIG_VISION, "batch_size": 1024, "epochs": 90, "augment.mixup_alpha": 0.2,
        "augment.rand_augment_magnitude": 10,
    },
    "augreg_s32": {
        **BIG_VISION, "batch_size": 4096, "epochs": 300, "augment.mixup_alpha": 0.2,
        "augment.rand_augment_magnitude": 10,
    },
    "augreg_s16": MEDIUM2, "augreg_b32": MEDIUM2, "augreg_b16": MEDIUM2, "augreg_l16": MEDIUM2,
}  # fmt: skip


@pytest.mark.parametrize("recipe", NUMBERS)
def test_a_recipe_has_the_numbers_of_its_source(recipe: str):
    config = RECIPES[recipe]()
    found = {name: attrgetter(name)(config) for name in NUMBERS[recipe]}
    assert found == NUMBERS[recipe]


@pytest.mark.parametrize("recipe", [recipe.__name__ for recipe in IMAGENET])
def test_a_recipe_warms_up_and_cools_down_as_its_source(recipe: str):
    """big_vision's warmup is 10,000 steps, and its rate ends at zero; DeiT's ends at 1e-5."""
    config = RECIPES[recipe]()
    if recipe in ("simple_vit_s16_i1k",) or recipe.startswith("augreg"):
        assert config.warmup_steps(IMAGES[config.data.name, config.data.train_split]) == 10_000
        assert config.schedule.final_fraction == 0
    else:
        assert config.schedule.final_fraction * config.schedule.learning_rate == pytest.approx(1e-5, rel=EXACT)


# Training images by dataset and split.
IMAGES = {
    ("imagenet2012", "train"): 1_281_167, ("imagenet2012", "train[:99%]"): 1_268_355,
    ("cifar10", "train"): 50_000, ("cifar100", "train"): 50_000, ("fashion_mnist", "train"): 60_000,
}  # fmt: skip


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "digits"])
def test_a_recipe_costs_the_operations_that_it_says(recipe: str):
    config, said = RECIPES[recipe](), " ".join((RECIPES[recipe].__doc__ or "").split())
    steps = 1e6 / config.batch_size
    if RECIPES[recipe] not in FROM_A_CHECKPOINT:  # which say it for each million images
        steps = config.total_steps(IMAGES[config.data.name, config.data.train_split])
    found = re.search(r"Cost: .*?([\d.]+e\d+) (floating-point )?operations", said)
    assert found, said
    assert float(found[1]) == float(f"{steps * train_flops(config):.1e}")


def commands(recipe: str) -> list[Command]:
    """Those of its docstring, parsed."""
    said = " ".join((RECIPES[recipe].__doc__ or "").split())
    return [parse(words.split()) for words in re.findall(r"`vit-train ([^`]+)`", said)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_commands_of_a_recipe_are_commands(recipe: str):
    first, *_ = commands(recipe)
    assert replace(first.config, data=RECIPES[recipe]().data, init=None) == replace(
        RECIPES[recipe](), devices=first.config.devices, init=None
    )


def test_deit3s_second_command_has_the_numbers_of_its_source():
    """facebookresearch/deit, README_revenge.md, "finetuning for ViT-B, L and H at resolution 224x224", 8 GPUs with 64
    images each; main.py: no clipping, and a rate that ends at 1e-5."""
    _, second = commands("deit3_b")
    expected = {
        "batch_size": 8 * 64, "epochs": 20, "init": "runs/deit3_b", "init_size": 224, "loss": "softmax",
        "schedule.learning_rate": 1e-5, "schedule.warmup_epochs": 5, "schedule.final_fraction": 1.0,
        "optimizer.name": "adamw", "optimizer.weight_decay": 0.1, "optimizer.clip_norm": None,
        "optimizer.layer_decay": None, "augment.mixup_alpha": 0.8, "augment.cutmix_alpha": 1.0,
        "augment.label_smoothing": 0.1, "augment.rand_augment_layers": 2, "augment.rand_augment_magnitude": 9,
        "augment.erase_prob": 0.0, "data.repeats": 1, "data.eval_crop": 1.0, "data.min_area": 0.08,
        "drop_path": 0.2, "drop_path_schedule": "constant", "ema_decay": None, "dtype": "bfloat16",
    }  # fmt: skip
    assert {name: attrgetter(name)(second.config) for name in expected} == expected


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_what_it_costs_and_gives(recipe: str):
    said = RECIPES[recipe].__doc__ or ""
    for word in (f"Command: `vit-train {recipe} ", "Cost:", "Result:", "Reference:"):
        assert word in said
    result, _, reference = said.partition("Result:")[2].partition("Reference:")
    assert re.search(r"\d%|none is published|depends on", result), "no accuracy, and no word of why"
    assert re.search(r"(et al\.|& \w+) \d{4}|as `cifar10`", reference), "no paper is named"
    assert "\n" not in said.splitlines()[0]
    assert len(said.splitlines()[0]) < 80


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder: two classes, parts of one photograph each, 12 to train on and 6 held out."""
    root = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for name in ("china", "flower"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                top, left = random.integers(0, 200, 2)
                photograph(name).crop((left, top, left + 150, top + 120)).save(root / split / name / f"{i}.jpg")
    return root


def starts(recipe: str, photographs: Path, workdir: Path, *more: str, steps: int = 2) -> dict[str, Any]:
    """A few steps of a recipe on the stand-in data, its model cut to one block; the last line that it logged."""
    data = f"--data.name folder:{photographs} --data.train-split train --data.test-split val"
    short = f"--batch-size 4 --steps {steps} --log.steps 1"
    main([recipe, "--workdir", str(workdir), *data.split(), *short.split(), *more])
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [*range(1, steps + 1)]
    assert all(np.isfinite(row["loss"]) for row in rows if "loss" in row)
    assert rows[-1]["test_count"] == 6
    return rows[-1]


QUICK = ("deit3_s",)  # LAMB, binary cross-entropy, 3-Augment, mixing, from photographs
CUT = ("--model.depth", "1", "--model.num-classes", "2", "--dtype", "float32")


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(recipe, marks=() if recipe in QUICK else pytest.mark.slow)
        for recipe in RECIPES
        if recipe != "digits" and RECIPES[recipe] not in FROM_A_CHECKPOINT
    ],
)
def test_a_recipe_starts(recipe: str, photographs: Path, tmp_path: Path):
    with jax.enable_x64(False):
        starts(recipe, photographs, tmp_path / "run", *CUT)


FAMILIES = ("deit_ti", "deit3_s", "augreg_s32", "simple_vit_s16_i1k")


@pytest.mark.parametrize("recipe", FAMILIES)
@pytest.mark.slow
def test_a_family_starts_in_its_own_dtype_with_more_than_one_block(recipe: str, photographs: Path, tmp_path: Path):
    assert RECIPES[recipe]().dtype == "bfloat16"
    with jax.enable_x64(False):
        starts(recipe, photographs, tmp_path / "run", "--model.depth", "2", "--model.num-classes", "2")
    trained = vit_torch.ViT.from_pretrained(tmp_path / "run" / "checkpoint")
    assert {p.dtype for p in trained.parameters()} == {torch.float32}


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_has_what_a_recipe_says_of_itself(recipe: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main([recipe, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    said = " ".join((RECIPES[recipe].__doc__ or "").split())
    assert said in shown


FAST = ("--schedule.learning-rate", "0.01", "--batch-size", "12")  # for a model that has learnt nothing before


@pytest.mark.slow
def test_sixty_steps_of_finetune_leave_a_checkpoint_that_has_learnt(photographs: Path, tmp_path: Path):
    """Parts of one photograph, or of the other: what is saved are the trained weights, and no average that still is
    nearly what it began with."""
    config = ViTConfig(image_size=32, patch_size=8, dim=32, depth=2, num_heads=2, mlp_dim=64, num_classes=7)
    model = vit_torch.ViT(config, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path / "checkpoint", layout="timm")
    with jax.enable_x64(False):
        row = starts("finetune", photographs, tmp_path / "run", "--init", str(tmp_path / "checkpoint"), *FAST, steps=60)
    assert row["test_loss"] < 0.6  # chance: 0.69


@pytest.mark.parametrize("recipe", [recipe.__name__ for recipe in FROM_A_CHECKPOINT])
@pytest.mark.slow
def test_a_recipe_from_a_checkpoint_starts_and_keeps_what_it_freezes(recipe: str, photographs: Path, tmp_path: Path):
    config = ViTConfig(image_size=32, patch_size=8, dim=16, depth=2, num_heads=2, mlp_dim=24, num_classes=7)
    model = vit_torch.ViT(config, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path / "checkpoint", layout="timm")
    with jax.enable_x64(False):
        # the first has a rate of zero, and the second finds a head of zeros, through which no gradient comes
        starts(recipe, photographs, tmp_path / "run", "--init", str(tmp_path / "checkpoint"), steps=3)
    trained = vit_torch.ViT.from_pretrained(tmp_path / "run" / "checkpoint").state_dict()
    moved = {name for name, before in model.state_dict().items() if not torch.equal(before, trained[name])}
    assert trained["head.weight"].abs().max() > 0
    if recipe == "linear_probe":
        assert moved == {"head.weight", "head.bias"}
    else:
        assert {"head.weight", "blocks.0.attn.qkv.weight", "pos_embed"} <= moved
