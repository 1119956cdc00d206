"""What the vision towers of transformers' CLIP and SigLIP share: their layers' names, and configs with two towers.

References:
    https://github.com/huggingface/transformers src/transformers/models/{clip,siglip}

Up to transformers 4, and in every class with something beside the tower, names begin with `vision_model.`. So they
are written: transformers 4 would leave a tower without the prefix at random values, with no more than a warning.
"""

from collections.abc import Mapping

from vit_convert.config import ViTConfig
from vit_convert.layouts.base import Aside, Json, layer_rules
from vit_convert.layouts.transformers.common import qkv_rules, square
from vit_convert.rules import Rule, Shape

PREFIX = "vision_model."
PREFIXES = (PREFIX, "")
LAYER, BLOCK = "{model}encoder.layers.{block}", "blocks.{block}"
LAYERS = {
    "{model}embeddings.patch_embedding": "patch_embed.proj",
    f"{LAYER}.layer_norm1": f"{BLOCK}.norm1",
    f"{LAYER}.self_attn.out_proj": f"{BLOCK}.attn.proj",
    f"{LAYER}.layer_norm2": f"{BLOCK}.norm2",
    f"{LAYER}.mlp.fc1": f"{BLOCK}.mlp.fc1",
    f"{LAYER}.mlp.fc2": f"{BLOCK}.mlp.fc2",
    "{head}": "head",
}
RULES = (
    Rule("{model}embeddings.position_embedding.weight", "pos_embed", "n d -> 1 n d"),
    *qkv_rules(f"{LAYER}.self_attn.{{part}}_proj"),
    *layer_rules(LAYERS),
)
PARTS = ("q", "k", "v")
_TEXT = "the text tower"
ASIDES = (
    Aside("text_model.", _TEXT),
    Aside("text_projection.", _TEXT),
    Aside("logit_scale", "the scale and bias of the contrastive loss"),
    Aside("logit_bias", "the scale and bias of the contrastive loss"),
    *(Aside(f"{model}embeddings.position_ids", "position_ids, which only count") for model in PREFIXES),
)


def model_of(shapes: Mapping[str, Shape], classed: bool) -> str | None:
    """The prefix of a tower's names, with a class token or without; None if they are none's."""
    for model in PREFIXES:
        patches, tokens = f"{model}embeddings.patch_embedding.weight", f"{model}embeddings.class_embedding" in shapes
        if len(shapes.get(patches, ())) == 4 and tokens == classed:
            return model
    return None


def tower(config: Json) -> Json:
    """The vision tower's entries: of a config with two towers, those of its own."""
    if str(config.get("model_type")).endswith("_vision_model"):
        return config
    inner = config.get("vision_config_dict")  # CLIP's older configs have both; transformers takes this one
    inner = config.get("vision_config") if inner is None else inner
    return {**(inner or {}), **({"id2label": config["id2label"]} if "id2label" in config else {})}


def conflicts(config: ViTConfig) -> list[str]:
    """Both take squares only, of square patches."""
    height, width = config.patch_hw
    return square(config, "the class") + (
        [] if height == width else [f"patch_size {height}x{width}: the class takes squares only"]
    )
