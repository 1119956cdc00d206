"""Golden cases of google-research/scenic: projects/baselines/vit.py, Flax msgpack train states."""

import importlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from parity_tests.golden import flax_models as fm
from parity_tests.golden.case import Case

TABLE_NAME = "Transformer/posembed_input/pos_embedding"
ABSENT = (
    *("immutabledict", "clu.metric_writers", "clu.periodic_actions", "clu.platform"),
    *("scenic.dataset_lib.dataset_utils", "scenic.dataset_lib.datasets", "scenic.common_lib.debug_utils"),
)
STATE = "Flax msgpack of scenic.train_lib.train_utils.TrainState by its own save_checkpoint (there checkpoint_<step>)"
LEGACY = "Flax msgpack of a train state before optax, as restore_pretrained_checkpoint reads it: optimizer/target"


def scenic() -> list[Case]:
    """Class token and mean of tokens in today's train state, and one train state from before optax."""
    fm.prepare(*ABSENT)
    return [
        _case("token", dict(classifier="token"), STATE),
        _case("gap_pre_logits", dict(classifier="gap", representation_size=33), STATE),
        _case("token_legacy_optimizer", dict(classifier="token"), LEGACY),
    ]


def _case(name: str, options: dict[str, Any], container: str) -> Case:
    size = dict(num_classes=11, mlp_dim=28, num_layers=2, num_heads=5, hidden_size=20, patches=dict(size=(4, 4)))
    arguments = size | dict(dropout_rate=0.0, attention_dropout_rate=0.0) | options
    parameters = fm.filled(_model(arguments).init, np.zeros((1, 20, 20, 3), np.float32), seed=7, train=False)
    has_class = options["classifier"] == "token"
    return Case(
        family="scenic",
        name=name,
        suffix=".msgpack",
        save=_state_saver(parameters) if container == STATE else _legacy_saver(parameters),
        container=container,
        constructor={"class": "scenic.projects.baselines.vit.ViT", **arguments},
        config=fm.config(
            class_token=has_class,
            pos_prefix="class" if has_class else "none",
            pool="class" if has_class else "mean",
            pre_logits=options.get("representation_size", 0),
        ),
        arrays=fm.arrays_by_size(parameters, (fm.NATIVE, fm.LARGER), partial(_outputs, arguments)),
        sizes=(fm.NATIVE, fm.LARGER),
        outputs=fm.OUTPUT | fm.TABLE,
        patches=("ViT(dtype=float64)",),
    )


def _model(arguments: Mapping[str, Any], **compute: Any) -> Any:
    patches = importlib.import_module("ml_collections").ConfigDict(arguments["patches"])
    return importlib.import_module("scenic.projects.baselines.vit").ViT(**{**arguments, "patches": patches}, **compute)


def _outputs(arguments: Mapping[str, Any], parameters: fm.Flat, x: Any, grid: fm.Size) -> dict[str, Any]:
    parameters = _merged(parameters, arguments, grid)
    output = _model(arguments, dtype=np.float64).apply({"params": fm.unflatten(parameters)}, x, train=False)
    return {"output": output, "pos_embed": parameters[TABLE_NAME]}


def _merged(parameters: fm.Flat, arguments: Mapping[str, Any], grid: fm.Size) -> fm.Flat:
    """What scenic's own fine-tuning makes of the parameters for a model of another grid; it leaves the head out."""
    old = parameters[TABLE_NAME]
    prefix = arguments["classifier"] == "token"
    new = parameters | {TABLE_NAME: np.zeros((1, grid[0] * grid[1] + prefix, old.shape[2]))}
    target, model = fm.unflatten(new), SimpleNamespace(**arguments)
    model.representation_size = arguments.get("representation_size")
    settings = SimpleNamespace(model=model)
    importlib.import_module("scenic.projects.baselines.vit")._merge_params(
        target, fm.unflatten(parameters), settings, settings
    )
    return {name: np.asarray(value) for name, value in fm.flatten(target).items()}


def _state_saver(parameters: fm.Flat) -> Callable[[Path], None]:
    """TrainState with momentum's state, through scenic's own save_checkpoint, as msgpack rather than Orbax."""

    def save(path: Path) -> None:
        jax, optax = importlib.import_module("jax"), importlib.import_module("optax")
        train_utils = importlib.import_module("scenic.train_lib.train_utils")
        importlib.import_module("flax").config.update("flax_use_orbax_checkpointing", False)
        tree, optimizer = fm.unflatten(parameters), optax.sgd(1e-3, momentum=0.9)
        gradients = jax.tree.map(lambda value: value / 3, tree)
        state = train_utils.TrainState(
            opt_state=optimizer.update(gradients, optimizer.init(tree), tree)[1],
            params=tree,
            global_step=7,
            rng=np.asarray([3, 5], np.uint32),
            metadata={"chrono": {"accum_train_time": 1.5}},
        )
        with tempfile.TemporaryDirectory() as folder:
            train_utils.save_checkpoint(folder, state)
            shutil.copyfile(Path(folder) / "checkpoint_7", path)

    return save


def _legacy_saver(parameters: fm.Flat) -> Callable[[Path], None]:
    state = {
        "global_step": 7,
        "optimizer": {"state": {"step": 7}, "target": {"params": fm.unflatten(parameters)}},
        "model_state": {},
        "rng": np.asarray([3, 5], np.uint32),
        "accum_train_time": 1.5,
    }
    contents = importlib.import_module("flax.serialization").msgpack_serialize(state)

    def save(path: Path) -> None:
        path.write_bytes(contents)

    return save
