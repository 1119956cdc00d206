"""transformers' SigLIP and SigLIP 2 at a fixed resolution: the vision tower.

References:
    https://github.com/huggingface/transformers src/transformers/models/siglip
"""

from collections.abc import Mapping

from vit_convert.config import ViTConfig
from vit_convert.describe import square_image
from vit_convert.layouts.base import LEAVES, Bare, Beside, Described, Files, Json, Layout, Spare, coded, layer_rules
from vit_convert.layouts.transformers import towers
from vit_convert.layouts.transformers.common import (
    DEFAULTS,
    PLAIN,
    ZERO_BIASES,
    described,
    entries,
    files,
    has,
    head_entries,
    limits,
)
from vit_convert.preprocess import Preprocess
from vit_convert.rules import Rule, Shape, Spelling
from vit_convert.steps import zero_qkv_bias

# The attention pooling, which a classifier does without.
POOL = {"attention.out_proj": "proj", "layernorm": "norm", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
UNUSED = "unused_pool"
RULES = (
    *towers.RULES,
    Rule("{model}head.probe", "{pool}.latent"),
    Rule("{model}head.attention.in_proj_weight", "{pool}.{qkv}.weight", "(qkv o) i -> qkv o i"),
    Rule("{model}head.attention.in_proj_bias", "{pool}.{qkv}.bias", "(qkv o) -> qkv o"),
    *layer_rules({f"{{model}}head.{left}": f"{{pool}}.{right}" for left, right in POOL.items()}),
    *layer_rules({"{model}post_layernorm": "norm"}),
)
SPARES = tuple(
    Spare(name, "the attention pooling, which the classifier does without")
    for name in (
        f"{UNUSED}.latent",
        *(f"{UNUSED}.{layer}.{leaf}" for layer in (*towers.PARTS, *POOL.values()) for leaf in LEAVES),
    )
)
CODE = {name: value for name, value in PLAIN.items() if name != "pool"} | {"class_token": False, "pos_prefix": "none"}
_DEFAULTS = DEFAULTS | {"hidden_act": "gelu_pytorch_tanh"}
MODEL_TYPES = ("siglip", "siglip_vision_model")


def recognise(shapes: Mapping[str, Shape]) -> Mapping[str, Spelling] | None:
    """By the patch embedding's name, where there is no class token."""
    model = towers.model_of(shapes, classed=False)
    return None if model is None else _holes(model, UNUSED if has(shapes, "classifier") else "attn_pool")


def spell(config: ViTConfig) -> Mapping[str, Spelling]:
    """As transformers 4 names them; transformers 5 leaves the prefix off a bare tower, and loads both."""
    return _holes(towers.PREFIX, "attn_pool")


def _holes(model: str, pool: str) -> Mapping[str, Spelling]:
    return {"model": model, "pool": pool, "head": "classifier", "part": towers.PARTS, "qkv": towers.PARTS}


def read(config: Json, beside: Beside) -> Described:
    """Raises CheckpointError for an activation that ViTConfig has no name for."""
    return described(towers.tower(config), beside, str(config.get("model_type")), _DEFAULTS, CODE)


def bare(file: Bare) -> Described:
    """The pooling is attention where there is one and no classifier, and else a mean."""
    pool = "map" if "attn_pool.latent" in file.hub else "mean"
    size = square_image(file.hub, prefix=0)
    return coded("transformers", CODE | {"pool": pool} | ({"image_size": size} if size else {}))


def conflicts(config: ViTConfig) -> list[str]:
    """What the class can't hold, beyond single fields."""
    problems = towers.conflicts(config)
    if config.num_classes and config.pool == "map":
        problems.append(f"pool 'map': only 'mean' with num_classes {config.num_classes}")
    return problems


def write(config: ViTConfig, preprocess: Preprocess | None, labels: tuple[str, ...] | None) -> Files:
    said = entries(config, "siglip_vision_model", "SiglipVisionModel")
    said |= {"attention_dropout": 0.0, "vision_use_head": config.pool == "map"}
    if config.num_classes:
        del said["architectures"]
        head = {"architectures": ["SiglipForImageClassification"], "model_type": "siglip"}
        said = head | {"vision_config": said, **head_entries(config, labels)}
    return files(config, said, CODE, preprocess)


SIGLIP = Layout(
    name="transformers:siglip_vision_model",
    summary="SiglipVisionModel.from_pretrained(DIR), or SiglipForImageClassification with a head",
    rules=RULES,
    recognise=recognise,
    spell=spell,
    owns=lambda config: config.get("model_type") in MODEL_TYPES,
    read=read,
    write=write,
    limits=limits(CODE, pool=("map", "mean"), qkv_bias=("all",), pre_logits=(0,)),
    conflicts=conflicts,
    bare=bare,
    asides=towers.ASIDES,
    spares=SPARES,
    adapts=(*ZERO_BIASES, zero_qkv_bias),
)
