"""Golden cases of transformers 4.57, PyTorch and Flax: what save_pretrained left on disks before transformers 5."""

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.golden import flax_models as fm
from parity_tests.golden import torch_models as tm
from parity_tests.golden.case import Case

SIZE = dict(hidden_size=18, num_hidden_layers=2, num_attention_heads=6, intermediate_size=27, image_size=20)
SIZE |= dict(patch_size=4)
DINOV2 = {name: value for name, value in SIZE.items() if name != "intermediate_size"} | dict(mlp_ratio=2)
POOLER = {"output": "pooler_output (batch, dim)"}
TABLE = {"pos_embed": "the position table that the model's own interpolate_pos_encoding made, class row first"}
# ViTConfig fields, by model.
FACTS: dict[str, dict[str, Any]] = {
    "vit": dict(num_classes=11, norm_eps=1e-12),
    "clip_vision": dict(norm_eps=1e-5, act="quick_gelu", pre_norm=True, patch_bias=False),
    "siglip_vision": dict(class_token=False, pos_prefix="none", act="gelu_tanh", pool="map"),
    "dinov2": dict(layer_scale=True, mlp_dim=36),
    "dinov2_classifier": dict(layer_scale=True, pool="class_mean", num_classes=11, mlp_dim=72),
}


def transformers_4() -> list[Case]:
    """ViT, the vision towers of CLIP and SigLIP, and DINOv2: model.safetensors and config.json."""
    return [
        _torch_case("vit", "ViTForImageClassification", dict(**SIZE, num_labels=11)),
        _torch_case("clip_vision", "CLIPVisionModel", SIZE),
        _torch_case("siglip_vision", "SiglipVisionModel", SIZE),
        _torch_case("dinov2", "Dinov2Model", DINOV2),
    ]


def transformers_4_flax() -> list[Case]:
    """ViT, CLIP's vision tower and DINOv2: flax_model.msgpack and config.json."""
    importlib.import_module("jax").config.update("jax_enable_x64", True)
    return [
        _flax_case("vit", "ViTForImageClassification", dict(**SIZE, num_labels=11)),
        _flax_case("clip_vision", "CLIPVisionModel", SIZE),
        _flax_case("dinov2_classifier", "Dinov2ForImageClassification", DINOV2 | dict(mlp_ratio=4, num_labels=11)),
    ]


def _classes(class_name: str, prefix: str = "") -> tuple[Any, Any]:
    transformers = importlib.import_module("transformers")
    stem = class_name.removesuffix("ForImageClassification").removesuffix("Model")
    return getattr(transformers, f"{stem}Config"), getattr(transformers, prefix + class_name)


def _config(name: str) -> dict[str, Any]:
    return tm.config(18, 6, 27, pos_resize="bicubic") | FACTS[name]


def _torch_case(name: str, class_name: str, arguments: Mapping[str, Any]) -> Case:
    config_class, model_class = _classes(class_name)
    model = tm.filled(model_class(config_class(**arguments)), 15)
    return Case(
        family="transformers_4",
        name=name,
        suffix="/",
        save=_pretrained(model_class(config_class(**arguments)), tm.state_of(model)),
        container="save_pretrained: model.safetensors and config.json",
        constructor={"class": f"transformers.{class_name}", **arguments},
        config=_config(name),
        arrays=tm.arrays_by_size(model, (tm.NATIVE, tm.OTHER), _torch_outputs),
        sizes=(tm.NATIVE, tm.OTHER),
        outputs=(tm.LOGITS if name == "vit" else POOLER) | TABLE,
        patches=("Tensor.to(float32) returns its tensor in interpolate_pos_encoding, where DINOv2 would resize in it",),
    )


def _pretrained(model: Any, state: Mapping[str, Any]) -> Callable[[Path], None]:
    model.load_state_dict(state)
    return lambda path: model.save_pretrained(path)


def _torch_outputs(model: Any, x: Any) -> dict[str, Any]:
    embeddings = next(module for module in model.modules() if hasattr(module, "interpolate_pos_encoding"))
    options = {} if type(model).__name__.startswith("Dinov2") else dict(interpolate_pos_encoding=True)
    tables: list[Any] = []
    original = embeddings.interpolate_pos_encoding
    embeddings.interpolate_pos_encoding = lambda *args: tables.append(original(*args)) or tables[-1]
    with tm.no_float32():
        found = model(x, **options)
    embeddings.interpolate_pos_encoding = original
    return {"output": found.logits if "logits" in found else found.pooler_output, "pos_embed": tables[0]}


def _flax_case(name: str, class_name: str, arguments: Mapping[str, Any]) -> Case:
    config_class, model_class = _classes(class_name, "Flax")
    model = model_class(config_class(**arguments))
    rng_parameters = fm.filled_like(model.params, seed=16)
    computing = model_class(config_class(**arguments), dtype=np.float64, _do_init=False)
    return Case(
        family="transformers_4_flax",
        name=name,
        suffix="/",
        save=lambda path: model.save_pretrained(path, params=fm.unflatten(rng_parameters)),
        container="save_pretrained: flax_model.msgpack and config.json",
        constructor={"class": f"transformers.Flax{class_name}", **arguments},
        config=_config(name),
        arrays=fm.arrays_by_size(rng_parameters, (fm.NATIVE,), partial(_flax_outputs, computing.module)),
        sizes=(fm.NATIVE,),
        outputs=POOLER if name == "clip_vision" else tm.LOGITS,
        patches=("dtype=float64, and the inner module is called: the outer one casts images to float32",),
        notes=("FlaxDinov2 resizes its table by another rule than PyTorch's: only the native size is here",)
        * (name == "dinov2_classifier"),
    )


def _flax_outputs(module: Any, parameters: fm.Flat, x: Any, grid: fm.Size) -> dict[str, Any]:
    found = module.apply({"params": fm.unflatten(parameters)}, x)
    return {"output": found.logits if "logits" in found else found.pooler_output}
