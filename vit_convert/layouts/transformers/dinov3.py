"""transformers' DINOv3.

References:
    https://github.com/huggingface/transformers src/transformers/models/dinov3_vit
    src/transformers/conversion_mapping.py (dinov3_vit)

It makes its rotary angles from `rope_theta` in float32, where Meta's files hold the periods rounded to bfloat16.
"""

from collections.abc import Mapping

import numpy as np

from vit_convert.config import ViTConfig
from vit_convert.layouts.base import Beside, Described, Files, Json, Layout, Spare, coded, layer_rules
from vit_convert.layouts.transformers.common import (
    DEFAULTS,
    KEYS,
    PLAIN,
    described,
    entries,
    files,
    has,
    limits,
)
from vit_convert.preprocess import Preprocess
from vit_convert.rules import Rule, Shape, Spelling
from vit_convert.steps import zero_patch_bias

LAYER, BLOCK = "{layers}{block}", "blocks.{block}"
LAYERS = {
    "embeddings.patch_embeddings": "patch_embed.proj",
    f"{LAYER}.norm1": f"{BLOCK}.norm1",
    f"{LAYER}.attention.o_proj": f"{BLOCK}.attn.proj",
    f"{LAYER}.norm2": f"{BLOCK}.norm2",
    f"{LAYER}.mlp.{{fc1}}": f"{BLOCK}.mlp.{{fc1}}",
    f"{LAYER}.mlp.down_proj": f"{BLOCK}.mlp.fc2",
    "norm": "norm",
}
RULES = (
    Rule("embeddings.cls_token", "cls_token"),
    Rule("embeddings.mask_token", "mask_token"),
    Rule("embeddings.register_tokens", "{registers}"),
    Rule(f"{LAYER}.attention.{{part}}_proj.weight", f"{BLOCK}.attn.qkv.weight", "part o i -> (part o) i"),
    Rule(f"{LAYER}.attention.{{all}}_proj.bias", f"{BLOCK}.attn.qkv.bias", "all o -> (all o)"),
    Rule(f"{LAYER}.attention.{{qv}}_proj.bias", f"{BLOCK}.attn.{{qv}}_bias"),
    Rule(f"{LAYER}.mlp.{{gated}}_proj.weight", f"{BLOCK}.mlp.fc1.weight", "gated o i -> (gated o) i"),
    Rule(f"{LAYER}.mlp.{{gated}}_proj.bias", f"{BLOCK}.mlp.fc1.bias", "gated o -> (gated o)"),
    *(Rule(f"{LAYER}.layer_scale{i}.lambda1", f"{BLOCK}.ls{i}.gamma") for i in (1, 2)),
    *layer_rules(LAYERS),
)
# On disk, and in memory since transformers 5.
NAMES = ("layer.", "model.layer.")
PARTS = ("q", "k", "v")
SPARES = (
    Spare("mask_token", "mask_token (masked pre-training)", lambda config: np.zeros((1, 1, config.dim))),
    Spare(
        "no_registers",
        "an empty tensor of registers",
        lambda config: None if config.num_registers else np.zeros((1, 0, config.dim)),
    ),
)
ROUNDED = "rope_round_periods"
_FREE = ("num_registers", "mlp", "proj_bias", "mlp_bias", "head_bias")
CODE = {name: value for name, value in PLAIN.items() if name not in _FREE} | {
    "pos_embed": "none",
    "pos_prefix": "none",
    "rope": "dinov3",
    ROUNDED: "none",
    "layer_scale": True,
}
_DEFAULTS = DEFAULTS | {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6, "layer_norm_eps": 1e-5}
_DEFAULTS |= {"rope_theta": 100.0, "num_register_tokens": 0, "use_gated_mlp": False, "proj_bias": True}
_DEFAULTS |= {"query_bias": True, "key_bias": False, "value_bias": True, "mlp_bias": True}
READ_KEYS = KEYS | {"rope_theta": "rope_theta", "num_registers": "num_register_tokens"}
READ_KEYS |= {"proj_bias": "proj_bias", "mlp_bias": "mlp_bias"}
BIASES: Mapping[tuple[bool, ...], str] = {
    (True, True, True): "all",
    (True, False, True): "qv",
    (False, False, False): "none",
}


def recognise(shapes: Mapping[str, Shape]) -> Mapping[str, Spelling] | None:
    """By the patch embedding's name, which has no `projection`, and layer scale."""
    for layers in NAMES:
        if has(shapes, "embeddings.patch_embeddings") and f"{layers}0.layer_scale1.lambda1" in shapes:
            attention, tokens = f"{layers}0.attention", shapes.get("embeddings.register_tokens", ())
            biased = tuple(f"{attention}.{part}_proj.bias" in shapes for part in PARTS)
            gated = has(shapes, f"{layers}0.mlp.gate_proj")
            return _holes(layers, BIASES.get(biased, "all"), gated, len(tokens) == 3 and tokens[1] > 0)
    return None


def spell(config: ViTConfig) -> Mapping[str, Spelling]:
    return _holes(NAMES[0], config.qkv_bias, config.mlp == "swiglu", config.num_registers > 0)


def _holes(layers: str, qkv_bias: str, gated: bool, registers: bool) -> Mapping[str, Spelling]:
    return {
        "layers": layers,
        "part": PARTS,
        "all": PARTS if qkv_bias == "all" else (),
        "qv": ("q", "v") if qkv_bias == "qv" else (),
        "fc1": () if gated else (("up_proj", "fc1"),),
        "gated": ("gate", "up") if gated else (),
        "registers": "reg_token" if registers else "no_registers",
    }


def read(config: Json, beside: Beside) -> Described:
    """Raises CheckpointError for an activation that ViTConfig has no name for."""
    return described(config, beside, "dinov3_vit", _DEFAULTS, CODE, _more, READ_KEYS)


def _more(said: Json) -> Json:
    """The fields that follow from the config's; a key without a bias among others that have one is no model's."""
    biased = said["query_bias"], said["key_bias"], said["value_bias"]
    if biased not in BIASES:
        raise ValueError(f"query_bias, key_bias and value_bias {biased}: only {', '.join(map(str, BIASES))}")
    return {"qkv_bias": BIASES[biased], "mlp": "swiglu" if said["use_gated_mlp"] else "mlp"}


def conflicts(config: ViTConfig) -> list[str]:
    """Rounded periods, which only the user can give up: the function changes."""
    if config.rope_round_periods == "none":
        return []
    return [
        f"{ROUNDED} {config.rope_round_periods!r}: only 'none': transformers makes periods anew, unrounded, and "
        f"answers differ in the third or fourth digit. If that will do: --set {ROUNDED}=none"
    ]


def write(config: ViTConfig, preprocess: Preprocess | None, labels: tuple[str, ...] | None) -> Files:
    biased = {kind: biased for biased, kind in BIASES.items()}[config.qkv_bias]
    said = entries(config, "dinov3_vit", "DINOv3ViTModel") | {
        "rope_theta": config.rope_theta,
        "num_register_tokens": config.num_registers,
        "use_gated_mlp": config.mlp == "swiglu",
        "attention_dropout": 0.0,
        "proj_bias": config.proj_bias,
        "mlp_bias": config.mlp_bias,
        **dict(zip(("query_bias", "key_bias", "value_bias"), biased, strict=True)),
    }
    return files(config, said, CODE, preprocess)


DINOV3 = Layout(
    name="transformers:dinov3_vit",
    summary="DINOv3ViTModel.from_pretrained(DIR)",
    rules=RULES,
    recognise=recognise,
    spell=spell,
    owns=lambda config: config.get("model_type") == "dinov3_vit",
    read=read,
    write=write,
    limits=limits({name: value for name, value in CODE.items() if name != ROUNDED}, num_classes=(0,), pre_logits=(0,)),
    conflicts=conflicts,
    bare=lambda file: coded("transformers", CODE),
    spares=SPARES,
    adapts=(zero_patch_bias,),
)
