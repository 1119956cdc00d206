"""Golden cases of google-research/big_vision: models/vit.py and two towers, npz files."""

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from parity_tests.golden import flax_models as fm
from parity_tests.golden.case import Case

POOLED = {"pooled": "what the head sees: (batch, dim), before pre_logits"}
FLAT = "np.savez of '/'-joined names, the parameters at the root, as the published files"
TRAINING = "np.savez of '/'-joined names of {'params', 'opt', 'chrono'}, as its training wrote; Adam's mu is bfloat16"
PATCHES = ("dtype_mm='float64'", "dtype_mm='float64' for the MlpBlock of MAPHead too, which is not handed it")


def big_vision() -> list[Case]:
    """The poolings, both position tables, pre_logits, scanned layers, containers old and new, SigLIP's two towers."""
    fm.prepare("pandas", "tqdm")
    vit: Any = importlib.import_module("big_vision.models.vit")
    vit.MlpBlock = partial(vit.MlpBlock, dtype_mm="float64")
    return [
        _case("gap", dict(pool_type="gap")),
        _case("gap_sincos2d_rep", dict(pool_type="gap", posemb="sincos2d", rep_size=33), sizes=(fm.NATIVE, fm.OTHER)),
        _case("tok_training", dict(pool_type="tok"), container=TRAINING),
        _case("map", dict(pool_type="map")),
        _case("map_scan", dict(pool_type="map", scan=True, num_classes=None)),
        _old_optimizer(),
        _two_towers("siglip", scan=False),
        _two_towers("siglip2_scan", scan=True),
    ]


def _model(options: Mapping[str, Any], **compute: Any) -> Any:
    return importlib.import_module("big_vision.models.vit").Model(**_arguments(options), **compute)


def _arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    return dict(num_classes=11, patch_size=(4, 4), width=20, depth=2, mlp_dim=28, num_heads=5) | dict(options)


def _case(name: str, options: dict[str, Any], container: str = FLAT, sizes: Any = (fm.NATIVE, fm.LARGER)) -> Case:
    parameters = fm.filled(_model(options).init, np.zeros((1, 20, 20, 3), np.float32), seed=4)
    contents = parameters if container == FLAT else _training_state(parameters)
    return Case(
        family="big_vision",
        name=name,
        suffix=".npz",
        save=fm.npz_saver(contents),
        container=container,
        constructor={"class": "big_vision.models.vit.Model", **_arguments(options)},
        config=_config(options),
        arrays=fm.arrays_by_size(parameters, sizes, partial(_outputs, _model(options, dtype_mm="float64"))),
        sizes=sizes,
        outputs=fm.OUTPUT | POOLED | fm.TABLE,
        patches=PATCHES,
    )


def _config(options: Mapping[str, Any]) -> dict[str, Any]:
    pool = {"gap": "mean", "tok": "class", "map": "map"}[options["pool_type"]]
    sincos2d = options.get("posemb") == "sincos2d"
    return fm.config(
        num_classes=_arguments(options)["num_classes"] or 0,
        class_token=pool == "class",
        pos_embed="sincos2d" if sincos2d else "learned",
        pos_prefix="none",
        pool=pool,
        pre_logits=options.get("rep_size", 0),
    )


def _outputs(model: Any, parameters: fm.Flat, x: Any, grid: fm.Size) -> dict[str, Any]:
    parameters, table = _resized(parameters, grid)
    output, intermediates = model.apply({"params": fm.unflatten(parameters)}, x)
    return {"output": output, "pooled": intermediates["head_input"]} | table


def _resized(parameters: fm.Flat, grid: fm.Size, name: str = "pos_embedding") -> tuple[fm.Flat, dict[str, Any]]:
    """The parameters with the table that vit.resample_posemb makes for `grid`, and that table; sincos2d has none."""
    if name not in parameters:
        return parameters, {}
    old = parameters[name]
    new = np.zeros((1, grid[0] * grid[1], old.shape[2]))  # only its shape is read
    table = importlib.import_module("big_vision.models.vit").resample_posemb(old, new)
    return parameters | {name: table}, {"pos_embed": table}


def _training_state(parameters: fm.Flat) -> fm.Flat:
    jax, optax = importlib.import_module("jax"), importlib.import_module("optax")
    utils = importlib.import_module("big_vision.utils")
    tree = fm.unflatten(parameters)
    optimizer = optax.adam(1e-3, mu_dtype="bfloat16")
    gradients = jax.tree.map(lambda value: value / 3, tree)
    state = optimizer.update(gradients, optimizer.init(tree), tree)[1]
    return dict(utils.tree_flatten_with_names({"params": tree, "opt": state, "chrono": utils.Chrono().save()})[0])


def _old_optimizer() -> Case:
    """Before 2022: opt/target, modules numbered across classes, the position table in Transformer/posembed_input with a
    row for the class token. The original's own `load` says what that means."""
    vit, options = importlib.import_module("big_vision.models.vit"), dict(pool_type="tok")
    today = fm.filled(_model(options).init, np.zeros((1, 20, 20, 3), np.float32), seed=4)
    # Multiples of 1/1024: adding the class row to the class token is exact in float32.
    today |= {"cls": (np.round(today["cls"] * 1024) / 1024).astype(np.float32)}
    row = np.round(today["pos_embedding"][:, :1] * 512).astype(np.float32) / 1024
    old = {name: value for name, value in today.items() if name != "pos_embedding"} | {"cls": today["cls"] - row}
    table = np.concatenate([row, today["pos_embedding"]], axis=1)
    old = fm.published(old | {"Transformer/posembed_input/pos_embedding": table})
    loaded = fm.flatten(vit.fix_old_checkpoints(fm.unflatten({name: value.copy() for name, value in old.items()})))
    assert {name: value.tobytes() for name, value in loaded.items()} == {n: v.tobytes() for n, v in today.items()}
    target = {f"opt/target/{name}": value for name, value in old.items()}
    return Case(
        family="big_vision",
        name="tok_old_optimizer",
        suffix=".npz",
        save=fm.npz_saver(target | {"opt/state/step": np.int32(7)}),
        container="np.savez of '/'-joined names of a Flax optimizer {'opt': {'target', 'state'}}, names before Linen",
        constructor={"class": "big_vision.models.vit.Model", **_arguments(options)},
        config=_config(options) | dict(pos_prefix="class"),
        arrays=fm.arrays_by_size(today, (fm.NATIVE, fm.LARGER), partial(_outputs, _model(options, dtype_mm="float64"))),
        sizes=(fm.NATIVE, fm.LARGER),
        outputs=fm.OUTPUT | POOLED | {"pos_embed": "the position table after fix_old_checkpoints: without a class row"},
        patches=PATCHES,
        notes=("fix_old_checkpoints adds the table's class row to cls; the sum is exact in float32",),
    )


def _two_towers(name: str, scan: bool) -> Case:
    towers = importlib.import_module("big_vision.models.proj.image_text.two_towers")
    image = dict(patch_size=(4, 4), width=20, depth=2, mlp_dim=28, num_heads=5, pool_type="map", scan=scan)
    text = dict(width=18, depth=1, mlp_dim=27, num_heads=3, vocab_size=29, scan=scan)
    arguments = dict(image=image, text=text, out_dim=(None, 20), temperature_init=10.0, bias_init=-10.0)
    model = towers.Model(**arguments)
    parameters = fm.filled(model.init, np.zeros((1, 20, 20, 3), np.float32), np.zeros((1, 7), np.int32), seed=5)
    computing = towers.Model(**arguments | dict(image=image | dict(dtype_mm="float64")))
    return Case(
        family="big_vision",
        name=name,
        suffix=".npz",
        save=fm.npz_saver({f"params/{name}": value for name, value in parameters.items()}),
        container="np.savez of '/'-joined names: params/img, params/txt, params/t and params/b",
        constructor={"class": "big_vision.models.proj.image_text.two_towers.Model", **arguments},
        config=_config(dict(pool_type="map", num_classes=None)),
        arrays=fm.arrays_by_size(parameters, (fm.NATIVE, fm.LARGER), partial(_tower_outputs, computing)),
        sizes=(fm.NATIVE, fm.LARGER),
        outputs=fm.TABLE
        | {
            "output": "the image tower's pooled features (batch, dim), before they are normalised",
            "normalized": "the two-tower model's image embedding: output / (its norm + 1e-8)",
        },
        patches=PATCHES,
    )


def _tower_outputs(model: Any, parameters: fm.Flat, x: Any, grid: fm.Size) -> dict[str, Any]:
    parameters, table = _resized(parameters, grid, "img/pos_embedding")
    normalized, _, intermediates = model.apply({"params": fm.unflatten(parameters)}, x)
    return {"output": intermediates["img/pre_logits"], "normalized": normalized} | table
