"""transformers' DINOv2, with and without registers.

References:
    https://github.com/huggingface/transformers src/transformers/models/{dinov2,dinov2_with_registers}
    src/transformers/conversion_mapping.py (Dinov2Model, Dinov2WithRegistersModel)

transformers 5 has other names in memory, where the gate and the value of a SwiGLU are apart; it writes those of
transformers 4 unless it is told not to (`save_original_format=False`). Both are read; transformers 4's are written.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vit_convert.config import ViTConfig
from vit_convert.layouts.base import Bare, Beside, Described, Files, Json, Layout, Spare, coded, layer_rules
from vit_convert.layouts.transformers.common import (
    DEFAULTS,
    EMBEDDINGS,
    IN_MEMORY,
    KEYS,
    ON_DISK,
    PLAIN,
    ZERO_BIASES,
    described,
    entries,
    files,
    has,
    head_entries,
    limits,
    qkv_bias,
    qkv_rules,
    square,
)
from vit_convert.preprocess import Preprocess
from vit_convert.rules import Rule, Shape, Spelling
from vit_convert.steps import zero_mean_head, zero_prefix_positions

LAYER, BLOCK = "{model}encoder.layer.{block}", "blocks.{block}"
LAYERS = {
    f"{LAYER}.norm1": f"{BLOCK}.norm1",
    f"{LAYER}.{{out}}": f"{BLOCK}.attn.proj",
    f"{LAYER}.norm2": f"{BLOCK}.norm2",
    f"{LAYER}.mlp.{{fc1}}": f"{BLOCK}.mlp.{{fc1}}",
    f"{LAYER}.mlp.{{fc2}}": f"{BLOCK}.mlp.fc2",
    "{model}layernorm": "norm",
    "classifier": "head",
}
RULES = (
    *EMBEDDINGS,
    Rule("{model}embeddings.register_tokens", "{registers}"),
    *qkv_rules(f"{LAYER}.{{attn}}{{part}}"),
    Rule(f"{LAYER}.mlp.{{gated}}_proj.weight", f"{BLOCK}.mlp.fc1.weight", "gated o i -> (gated o) i"),
    Rule(f"{LAYER}.mlp.{{gated}}_proj.bias", f"{BLOCK}.mlp.fc1.bias", "gated o -> (gated o)"),
    *(Rule(f"{LAYER}.layer_scale{i}.lambda1", f"{BLOCK}.ls{i}.gamma") for i in (1, 2)),
    *layer_rules(LAYERS),
)
MLP: Mapping[str, Spelling] = {"fc1": ("fc1",), "fc2": "fc2", "gated": ()}
SWIGLU: Mapping[str, Spelling] = {"fc1": (("weights_in", "fc1"),), "fc2": "weights_out", "gated": ()}
SWIGLU_APART: Mapping[str, Spelling] = {"fc1": (), "fc2": "down_proj", "gated": ("gate", "up")}
SPARES = (
    Spare("mask_token", "mask_token (masked pre-training)", lambda config: np.zeros((1, config.dim))),
    Spare("no_registers", "an empty tensor of registers"),
)
READ_KEYS = {ours: theirs for ours, theirs in KEYS.items() if ours not in ("mlp_dim", "act")}


@dataclass(frozen=True)
class Kind:
    """DINOv2 with or without registers."""

    model_type: str
    name: str  # as its Python classes begin
    defaults: Json
    code: Json

    @property
    def registers(self) -> bool:
        return "num_registers" not in self.code

    def recognise(self, shapes: Mapping[str, Shape]) -> Mapping[str, Spelling] | None:
        """By the patch embedding's name, layer scale, and registers or none."""
        for model in (f"{self.model_type}.", ""):
            projection, scale = f"{model}embeddings.patch_embeddings.projection", f"{model}encoder.layer.0.layer_scale1"
            if has(shapes, projection) and f"{scale}.lambda1" in shapes:
                tokens = shapes.get(f"{model}embeddings.register_tokens")
                return _spelled(shapes, model, tokens) if (tokens is not None) == self.registers else None
        return None

    def spell(self, config: ViTConfig) -> Mapping[str, Spelling]:
        mlp = SWIGLU if config.mlp == "swiglu" else MLP
        model = f"{self.model_type}." if config.num_classes else ""
        return {"model": model, "registers": "reg_token", **ON_DISK, **mlp}

    def read(self, config: Json, beside: Beside) -> Described:
        """Raises CheckpointError for an activation that ViTConfig has no name for."""
        keys = READ_KEYS | ({"num_registers": "num_register_tokens"} if self.registers else {})
        keys |= {} if config.get("use_swiglu_ffn") else {"act": "hidden_act"}
        return described(config, beside, self.model_type, self.defaults, self.code, _more, keys)

    def bare(self, file: Bare) -> Described:
        return coded("transformers", self.code | ({} if has(file.hub, "head") else {"pool": "class"}))

    def conflicts(self, config: ViTConfig) -> list[str]:
        """What the class can't hold, beyond single fields."""
        problems = square(config, "the class")
        headed = "class_mean" if config.num_classes else "class"
        if config.pool != headed:
            problems.append(f"pool {config.pool!r}: only {headed!r} with num_classes {config.num_classes}")
        if config.mlp == "swiglu" and config.act != "silu":
            problems.append(f"act {config.act!r}: only 'silu' with mlp 'swiglu'")
        if _mlp_ratio(config) is None:
            how = ", two thirds of it rounded up to a multiple of 8" if config.mlp == "swiglu" else ""
            problems.append(f"mlp_dim {config.mlp_dim}: only a multiple of dim {config.dim}{how}")
        if self.registers and not config.num_registers:
            problems.append("num_registers 0: only 1 or more")
        return problems

    def write(self, config: ViTConfig, preprocess: Preprocess | None, labels: tuple[str, ...] | None) -> Files:
        architecture = f"{self.name}{'ForImageClassification' if config.num_classes else 'Model'}"
        said = entries(config, self.model_type, architecture)
        del said["intermediate_size"]
        said |= {
            "mlp_ratio": _mlp_ratio(config),
            "use_swiglu_ffn": config.mlp == "swiglu",
            "hidden_act": "gelu" if config.mlp == "swiglu" else said["hidden_act"],  # a SwiGLU's is in the code
            "qkv_bias": config.qkv_bias == "all",
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            **({"num_register_tokens": config.num_registers} if self.registers else {}),
            **head_entries(config, labels),
        }
        return files(config, said, self.code, preprocess)

    def layout(self) -> Layout:
        free = {"mlp": ("mlp", "swiglu"), "qkv_bias": ("all", "none"), "pool": ("class", "class_mean")}
        return Layout(
            name=f"transformers:{self.model_type}",
            summary=f"{self.name}ForImageClassification.from_pretrained(DIR), or {self.name}Model without a head",
            rules=RULES,
            recognise=self.recognise,
            spell=self.spell,
            owns=lambda config: config.get("model_type") == self.model_type,
            read=self.read,
            write=self.write,
            limits=limits(self.code, pre_logits=(0,), **free),
            conflicts=self.conflicts,
            bare=self.bare,
            spares=SPARES,
            adapts=(zero_prefix_positions, zero_mean_head, *ZERO_BIASES),
        )


def _spelled(shapes: Mapping[str, Shape], model: str, registers: Shape | None) -> Mapping[str, Spelling]:
    """What fills the holes: whose names these are."""
    layer = f"{model}encoder.layer.0"
    names = ON_DISK if has(shapes, f"{layer}.attention.attention.query") else IN_MEMORY
    packed, apart = has(shapes, f"{layer}.mlp.weights_in"), has(shapes, f"{layer}.mlp.gate_proj")
    mlp = SWIGLU if packed else SWIGLU_APART if apart else MLP
    there = registers is not None and len(registers) == 3 and registers[1] > 0
    return {"model": model, "registers": "reg_token" if there else "no_registers", **names, **mlp}


def _more(said: Json) -> Json:
    """The fields that follow from the config's."""
    width = swiglu_width(said["hidden_size"], said["mlp_ratio"])
    if said["use_swiglu_ffn"]:
        return {"mlp": "swiglu", "act": "silu", "mlp_dim": width, **qkv_bias(said)}
    return {"mlp": "mlp", "mlp_dim": int(said["hidden_size"] * said["mlp_ratio"]), **qkv_bias(said)}


def swiglu_width(dim: int, mlp_ratio: float) -> int:
    """Two thirds of an MLP's width, rounded up to a multiple of 8."""
    return (int(int(dim * mlp_ratio) * 2 / 3) + 7) // 8 * 8


def _mlp_ratio(config: ViTConfig) -> int | None:
    """The whole mlp_ratio from which the class makes this width; None if there is none."""
    if config.mlp == "mlp":
        return None if config.mlp_dim % config.dim else config.mlp_dim // config.dim
    around = range(1, 3 * config.mlp_dim // config.dim + 2)
    return next((ratio for ratio in around if swiglu_width(config.dim, ratio) == config.mlp_dim), None)


_DEFAULTS = {name: value for name, value in DEFAULTS.items() if name != "intermediate_size"}
_DEFAULTS |= {"mlp_ratio": 4, "use_swiglu_ffn": False}
_CODE = {name: value for name, value in PLAIN.items() if name not in ("mlp", "pool")} | {"layer_scale": True}
_WITH_REGISTERS = {name: value for name, value in _CODE.items() if name != "num_registers"}
KINDS = (
    Kind("dinov2", "Dinov2", _DEFAULTS | {"patch_size": 14}, _CODE),
    Kind(
        "dinov2_with_registers",
        "Dinov2WithRegisters",
        _DEFAULTS | {"num_register_tokens": 4},
        _WITH_REGISTERS | {"pos_resize": "bicubic_antialias"},
    ),
)
LAYOUTS = tuple(kind.layout() for kind in KINDS)
