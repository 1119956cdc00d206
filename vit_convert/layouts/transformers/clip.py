"""transformers' CLIP: the vision tower, bare, with its projection, or with a classifier.

References:
    https://github.com/huggingface/transformers src/transformers/models/clip
"""

from collections.abc import Callable, Mapping

import numpy as np

from vit_convert.config import ViTConfig
from vit_convert.describe import square_image
from vit_convert.layouts.base import Bare, Beside, Described, Files, Json, Layout, Spare, coded, layer_rules
from vit_convert.layouts.transformers import towers
from vit_convert.layouts.transformers.common import (
    DEFAULTS,
    PLAIN,
    described,
    entries,
    files,
    has,
    head_entries,
    limits,
)
from vit_convert.preprocess import Preprocess
from vit_convert.rules import Rule, Shape, Spelling
from vit_convert.steps import zero_key_bias, zero_prefix_positions, zero_qkv_bias

UNUSED = "unused_norm"
RULES = (
    *towers.RULES,
    Rule("{model}embeddings.class_embedding", "cls_token", "d -> 1 1 d"),
    *layer_rules({"{model}pre_layrnorm": "norm_pre", "{model}post_layernorm": "{post_norm}"}),  # so it is spelled
)


def _unused(value: float) -> Callable[[ViTConfig], np.ndarray | None]:
    """A classifier averages what comes before the last norm."""
    return lambda config: np.full(config.dim, value) if config.final_norm == "none" else None


_WHY = "post_layernorm, which the classifier does without"
SPARES = (
    Spare(f"{UNUSED}.weight", _WHY, _unused(1.0)),
    Spare(f"{UNUSED}.bias", _WHY, _unused(0.0)),
)
_FREE = ("pool", "final_norm", "head_bias")
CODE = {name: value for name, value in PLAIN.items() if name not in _FREE} | {"pre_norm": True, "patch_bias": False}
_DEFAULTS = DEFAULTS | {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "patch_size": 32}
MODEL_TYPES = ("clip", "clip_vision_model")


def recognise(shapes: Mapping[str, Shape]) -> Mapping[str, Spelling] | None:
    """By the patch embedding's name and the class token's."""
    model = towers.model_of(shapes, classed=True)
    return None if model is None else _holes(model, has(shapes, "classifier"))


def spell(config: ViTConfig) -> Mapping[str, Spelling]:
    """As transformers 4 names them; transformers 5 leaves the prefix off a bare tower, and loads both."""
    return _holes(towers.PREFIX, config.pool == "mean")


def _holes(model: str, classifies: bool) -> Mapping[str, Spelling]:
    head, norm = ("classifier", UNUSED) if classifies else ("visual_projection", "norm")
    return {"model": model, "part": towers.PARTS, "head": head, "post_norm": norm}


def read(config: Json, beside: Beside) -> Described:
    """Raises CheckpointError for an activation that ViTConfig has no name for."""
    return described(towers.tower(config), beside, str(config.get("model_type")), _DEFAULTS, CODE)


def bare(file: Bare) -> Described:
    """A classifier averages the patches, unnormed; anything else stands on the class token, normed."""
    classifies = has(file.shapes, "classifier")
    pool = {"pool": "mean", "final_norm": "none"} if classifies else {"pool": "class", "final_norm": "tokens"}
    size = square_image(file.hub, prefix=1)
    return coded("transformers", CODE | pool | ({"image_size": size} if size else {}))


def conflicts(config: ViTConfig) -> list[str]:
    """What the class can't hold, beyond single fields."""
    problems = towers.conflicts(config)
    normed = "none" if config.pool == "mean" else "tokens"
    if config.final_norm != normed:
        problems.append(f"final_norm {config.final_norm!r}: only {normed!r} with pool {config.pool!r}")
    if config.pool == "mean" and not config.num_classes:
        problems.append("pool 'mean': only 'class' without a head")
    if config.num_classes and config.head_bias != (config.pool == "mean"):
        problems.append(f"head_bias {config.head_bias}: only {not config.head_bias} with pool {config.pool!r}")
    return problems


def write(config: ViTConfig, preprocess: Preprocess | None, labels: tuple[str, ...] | None) -> Files:
    said = entries(config, "clip_vision_model", "CLIPVisionModel") | {"attention_dropout": 0.0}
    notes = []
    if config.pool == "mean":
        del said["architectures"]
        head = {"architectures": ["CLIPForImageClassification"], "model_type": "clip"}
        said = head | {"vision_config": said, **head_entries(config, labels)}
    elif config.num_classes:
        said |= {"architectures": ["CLIPVisionModelWithProjection"], "projection_dim": config.num_classes}
        said |= head_entries(config, labels) if labels else {}
        notes.append("AutoModel leaves the projection out: load it with CLIPVisionModelWithProjection")
    return files(config, said, CODE, preprocess, notes)


CLIP = Layout(
    name="transformers:clip_vision_model",
    summary="CLIPVisionModel.from_pretrained(DIR), CLIPVisionModelWithProjection, or CLIPForImageClassification",
    rules=RULES,
    recognise=recognise,
    spell=spell,
    owns=lambda config: config.get("model_type") in MODEL_TYPES,
    read=read,
    write=write,
    limits=limits(CODE, pool=("class", "mean"), final_norm=("tokens", "none"), qkv_bias=("all",), pre_logits=(0,)),
    conflicts=conflicts,
    bare=bare,
    asides=towers.ASIDES,
    spares=SPARES,
    adapts=(zero_prefix_positions, zero_key_bias, zero_qkv_bias),
)
