"""transformers' ViTForImageClassification, and ViTModel where there is no head.

References:
    https://github.com/huggingface/transformers src/transformers/models/vit/modeling_vit.py

The names are those on disk: transformers 5 renames tensors in memory, and back when it saves.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.layouts.base import Described, Files, Json, Layout
from vit_convert.preprocess import Preprocess
from vit_convert.processors import differences
from vit_convert.processors import transformers as processor
from vit_convert.rules import Rule, Spelling

LAYER, BLOCK = "{model}encoder.layer.{block}", "blocks.{block}"
LAYERS = {
    "{model}embeddings.patch_embeddings.projection": "patch_embed.proj",
    f"{LAYER}.layernorm_before": f"{BLOCK}.norm1",
    f"{LAYER}.attention.output.dense": f"{BLOCK}.attn.proj",
    f"{LAYER}.layernorm_after": f"{BLOCK}.norm2",
    f"{LAYER}.intermediate.dense": f"{BLOCK}.mlp.fc1",
    f"{LAYER}.output.dense": f"{BLOCK}.mlp.fc2",
    "{model}layernorm": "norm",
    "{model}pooler.dense": "pre_logits",  # both are tanh of a linear layer on the class token
    "classifier": "head",
}
RULES = (
    Rule("{model}embeddings.cls_token", "cls_token"),
    Rule("{model}embeddings.position_embeddings", "pos_embed"),
    Rule(f"{LAYER}.attention.attention.{{part}}.weight", f"{BLOCK}.attn.qkv.weight", "part o i -> (part o) i"),
    Rule(f"{LAYER}.attention.attention.{{part}}.bias", f"{BLOCK}.attn.qkv.bias", "part o -> (part o)"),
    *(Rule(f"{left}.{leaf}", f"{right}.{leaf}") for left, right in LAYERS.items() for leaf in ("weight", "bias")),
)

ACTS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
}
# What the class does, whatever its config says.
CLASS = {
    "class_token": True,
    "dist_token": False,
    "num_registers": 0,
    "pos_embed": "learned",
    "pos_prefix": "class",
    "rope": "none",
    "norm": "layer",
    "pre_norm": False,
    "final_norm": "tokens",
    "qk_norm": False,
    "attn_norm": False,
    "mlp_norm": False,
    "layer_scale": False,
    "mlp": "mlp",
    "patch_bias": True,
    "proj_bias": True,
    "mlp_bias": True,
    "head_bias": True,
    "pool": "class",
}
KEYS = {
    "image_size": "image_size",
    "patch_size": "patch_size",
    "in_channels": "num_channels",
    "dim": "hidden_size",
    "depth": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "mlp_dim": "intermediate_size",
    "norm_eps": "layer_norm_eps",
    "act": "hidden_act",
    "qkv_bias": "qkv_bias",
}
# What transformers leaves out of config.json: the defaults of its ViTConfig.
DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "qkv_bias": True,
    "pooler_act": "tanh",
}


def read(config: Json, beside: Callable[[str], Json | None]) -> Described:
    """config.json and preprocessor_config.json of a ViT.

    Raises:
        CheckpointError: another model_type, or an activation that ViTConfig has no name for.
    """
    if config.get("model_type") != "vit":
        raise CheckpointError(f"config.json: model_type {config.get('model_type')!r} is not read; 'vit' is")
    said = {**DEFAULTS, **config}
    problems = [f"hidden_act {said['hidden_act']!r}: only {', '.join(ACTS)}"] * (said["hidden_act"] not in ACTS)
    problems += [f"pooler_act {said['pooler_act']!r}: only 'tanh'"] * (said["pooler_act"] != "tanh")
    if problems:
        raise CheckpointError("config.json: " + "; ".join(problems))
    code = CLASS | {"pos_resize": "bicubic"}
    fields = code | {ours: said[theirs] for ours, theirs in KEYS.items()}
    fields |= {"act": ACTS[said["hidden_act"]], "qkv_bias": "all" if said["qkv_bias"] else "none"}
    sources = dict.fromkeys(code, "transformers' code")
    sources |= {ours: "transformers' default" for ours, theirs in KEYS.items() if theirs not in config}
    return Described(
        fields, processor.read(processor.find(beside), "vit"), _labels(config.get("id2label")), sources=sources
    )


def write(config: ViTConfig, preprocess: Preprocess | None, labels: tuple[str, ...] | None) -> Files:
    """config.json for `from_pretrained`; preprocessor_config.json where an image processor can say it."""
    names = {str(i): label for i, label in enumerate(labels or map("LABEL_{}".format, range(config.num_classes)))}
    entries = {
        "architectures": ["ViTForImageClassification" if config.num_classes else "ViTModel"],
        "model_type": "vit",
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_dim,
        "hidden_act": {ours: theirs for theirs, ours in reversed(ACTS.items())}[config.act],
        "layer_norm_eps": config.norm_eps,
        "image_size": _write_size(config.image_hw),
        "patch_size": _write_size(config.patch_hw),
        "num_channels": config.in_channels,
        "qkv_bias": config.qkv_bias == "all",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    if config.num_classes:
        entries |= {"id2label": names, "label2id": {label: int(i) for i, label in names.items()}}
    if config.pre_logits:
        entries |= {"pooler_output_size": config.pre_logits, "pooler_act": "tanh"}
    said = processor.write(preprocess) if preprocess else None
    files = {"config.json": entries} | ({processor.FILE: said} if said else {})
    return Files(files, tuple(_notes(config, preprocess, said)), {"format": "pt"})


def _notes(config: ViTConfig, preprocess: Preprocess | None, said: Json | None) -> list[str]:
    notes = []
    if config.pos_resize != "bicubic":
        notes.append(
            f"transformers resizes positions by bicubic, not by {config.pos_resize}: "
            "the same function at this image size, another at others"
        )
    if not config.num_classes and not config.pre_logits:
        notes.append("there is no pooler: load it with ViTModel.from_pretrained(DIR, add_pooling_layer=False)")
    if preprocess:
        notes += differences("transformers' image processors", preprocess, processor.read(said))
    return notes


def conflicts(config: ViTConfig) -> list[str]:
    """What transformers' ViT can't hold, beyond single fields."""
    if config.num_classes and config.pre_logits:
        return [f"pre_logits {config.pre_logits}: only 0 with num_classes {config.num_classes}"]
    return []


def recognise(names: Collection[str]) -> Mapping[str, Spelling] | None:
    """By the patch embedding's name: with the prefix of a model with a head, or without."""
    for model in ("vit.", ""):
        if f"{model}embeddings.patch_embeddings.projection.weight" in names:
            return _holes(model)
    return None


def _holes(model: str) -> Mapping[str, Spelling]:
    return {"model": model, "part": ("query", "key", "value")}


def _write_size(size: tuple[int, int]) -> int | list[int]:
    return size[0] if size[0] == size[1] else list(size)


def _labels(id2label: Any) -> tuple[str, ...] | None:
    """Labels by index; None for the numbered ones that transformers makes up."""
    if not isinstance(id2label, dict) or set(id2label) != {str(i) for i in range(len(id2label))}:
        return None
    labels = tuple(str(id2label[str(i)]) for i in range(len(id2label)))
    return None if labels == tuple(f"LABEL_{i}" for i in range(len(labels))) else labels


VIT = Layout(
    name="transformers:vit",
    summary="ViTForImageClassification.from_pretrained(DIR), or ViTModel without a head",
    rules=RULES,
    recognise=recognise,
    spell=lambda config: _holes("vit." if config.num_classes else ""),
    owns=lambda config: "model_type" in config,
    read=read,
    write=write,
    limits={name: (value,) for name, value in CLASS.items()} | {"qkv_bias": ("all", "none")},
    conflicts=conflicts,
)

TRANSFORMERS = (VIT,)
