"""Golden cases of google-research/vision_transformer: vit_jax/models_vit.py, npz files."""

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from parity_tests.golden import flax_models as fm
from parity_tests.golden.case import Case

TABLE_NAME = "Transformer/posembed_input/pos_embedding"
TODAY = "np.savez of '/'-joined names, the parameters at the root, names as today's Flax gives them"
PUBLISHED = "np.savez of '/'-joined names, the parameters at the root, names before Linen, as the published files"


def vision_transformer() -> list[Case]:
    """Class token and mean of tokens, without and with pre_logits, today's names and the published ones."""
    fm.prepare("pandas", "tqdm")
    return [
        _case("token", "token", None, TODAY),
        _case("token_published", "token", None, PUBLISHED),
        _case("token_pre_logits_published", "token", 33, PUBLISHED),
        _case("gap_pre_logits", "gap", 33, TODAY),
        _case("gap_published", "gap", None, PUBLISHED),
    ]


def _case(name: str, classifier: str, representation_size: int | None, container: str) -> Case:
    arguments = dict(
        num_classes=11,
        patches=dict(size=(4, 4)),
        hidden_size=20,
        transformer=dict(num_layers=2, mlp_dim=28, num_heads=5, dropout_rate=0.0, attention_dropout_rate=0.0),
        classifier=classifier,
        representation_size=representation_size,
    )
    parameters = fm.filled(_model(arguments).init, np.zeros((1, 20, 20, 3), np.float32), seed=6, train=False)
    return Case(
        family="vision_transformer",
        name=name,
        suffix=".npz",
        save=fm.npz_saver(fm.published(parameters) if container == PUBLISHED else parameters),
        container=container,
        constructor={"class": "vit_jax.models_vit.VisionTransformer", **arguments},
        config=fm.config(
            class_token=classifier == "token",
            pos_prefix="class" if classifier == "token" else "none",
            pool="class" if classifier == "token" else "mean",
            pre_logits=representation_size or 0,
        ),
        arrays=fm.arrays_by_size(
            parameters, (fm.NATIVE, fm.LARGER), partial(_outputs, arguments, classifier == "token")
        ),
        sizes=(fm.NATIVE, fm.LARGER),
        outputs=fm.OUTPUT | fm.TABLE,
        patches=("Encoder1DBlock's dtype is float64: the model has no argument for it",),
        notes=("token and token_published are the same weights",) if name in ("token", "token_published") else (),
    )


def _model(arguments: Mapping[str, Any]) -> Any:
    config_dict = importlib.import_module("ml_collections").ConfigDict
    patches = config_dict(arguments["patches"])
    return importlib.import_module("vit_jax.models_vit").VisionTransformer(**{**arguments, "patches": patches})


def _outputs(
    arguments: Mapping[str, Any], has_class: bool, parameters: fm.Flat, x: Any, grid: fm.Size
) -> dict[str, Any]:
    checkpoint: Any = importlib.import_module("vit_jax.checkpoint")
    models: Any = importlib.import_module("vit_jax.models_vit")
    table = parameters[TABLE_NAME]
    if grid != fm.GRID:
        table = checkpoint.interpolate_posembed(table, grid[0] * grid[1] + has_class, has_class)
    parameters = parameters | {TABLE_NAME: np.asarray(table)}
    block = models.Encoder1DBlock
    models.Encoder1DBlock = partial(block, dtype=np.float64)
    try:
        output = _model(arguments).apply({"params": fm.unflatten(parameters)}, x, train=False)
    finally:
        models.Encoder1DBlock = block
    return {"output": output, "pos_embed": table}
