"""transformers' ViT, DeiT, ViT-MSN, ViT-MAE (its encoder) and I-JEPA, whose names are the same.

References:
    https://github.com/huggingface/transformers src/transformers/models/{vit,deit,vit_msn,vit_mae,ijepa}
    src/transformers/conversion_mapping.py (ViTModel, ViTMSNForImageClassification)

transformers 5 has other names in memory, and writes those of transformers 4 unless it is told not to
(`save_original_format=False`). Both are read; those of transformers 4 are written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.layouts.base import Aside, Bare, Beside, Described, Files, Json, Layout, Spare, coded, layer_rules
from vit_convert.layouts.transformers.common import (
    DEFAULTS,
    EMBEDDINGS,
    IN_MEMORY,
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
)
from vit_convert.preprocess import Preprocess
from vit_convert.rules import Rule, Shape, Spelling
from vit_convert.steps import zero_prefix_positions

LAYER, BLOCK = "{layers}{block}", "blocks.{block}"
LAYERS = {
    f"{LAYER}.layernorm_before": f"{BLOCK}.norm1",
    f"{LAYER}.{{out}}": f"{BLOCK}.attn.proj",
    f"{LAYER}.layernorm_after": f"{BLOCK}.norm2",
    f"{LAYER}.{{fc1}}": f"{BLOCK}.mlp.fc1",
    f"{LAYER}.{{fc2}}": f"{BLOCK}.mlp.fc2",
    "{model}layernorm": "norm",
    "{model}pooler.dense": "{pooler}",  # as pre_logits: tanh of a linear layer on the class token
    "{classifier}": "head",
    "distillation_classifier": "head_dist",
}
RULES = (
    *EMBEDDINGS,
    Rule("{model}embeddings.distillation_token", "dist_token"),
    *qkv_rules(f"{LAYER}.{{attn}}{{part}}"),
    *layer_rules(LAYERS),
)
WRITTEN: Mapping[str, Spelling] = {**ON_DISK, "fc1": "intermediate.dense", "fc2": "output.dense"}
NAMES = {"encoder.layer.": WRITTEN, "layers.": {**IN_MEMORY, "fc1": "mlp.fc1", "fc2": "mlp.fc2"}}
SPARES = (
    Spare("mask_token", "mask_token (masked pre-training)"),
    Spare("unused_pooler.weight", "the pooler, which the head doesn't use"),
    Spare("unused_pooler.bias", "the pooler, which the head doesn't use"),
)


@dataclass(frozen=True)
class Kind:
    """One of these classes."""

    model_type: str
    name: str  # as its Python classes begin
    prefix: str  # of the model inside a class with a head
    norm_eps: float = 1e-12
    code: Json = field(default_factory=lambda: PLAIN)
    head: bool = True
    pooler: bool = False
    asides: tuple[Aside, ...] = (Aside("decoder.0.", "the decoder of masked pre-training"),)

    @property
    def distilled(self) -> bool:
        return self.code["dist_token"]

    def recognise(self, shapes: Mapping[str, Shape]) -> Mapping[str, Spelling] | None:
        """By the patch embedding's name, the tokens beside it, and the layers'."""
        for model in (self.prefix, ""):
            if has(shapes, f"{model}embeddings.patch_embeddings.projection") and self._has_tokens(shapes, model):
                return _spelled(shapes, model)
        return None

    def _has_tokens(self, shapes: Mapping[str, Shape], model: str) -> bool:
        """Where the prefix tells the class, a class token that isn't there is missing."""
        distilled = f"{model}embeddings.distillation_token" in shapes
        classed = f"{model}embeddings.cls_token" in shapes
        return distilled == self.distilled and (classed == self.code["class_token"] or model == self.prefix != "")

    def spell(self, config: ViTConfig) -> Mapping[str, Spelling]:
        model = self.prefix if config.num_classes else ""
        classifier = "cls_classifier" if config.pool == "class_dist" else "classifier"
        return {
            "model": model,
            "layers": f"{model}encoder.layer.",
            "classifier": classifier,
            "pooler": "pre_logits",
            **WRITTEN,
        }

    def read(self, config: Json, beside: Beside) -> Described:
        """Raises CheckpointError for an activation that ViTConfig has no name for, of a model that uses it."""
        act, defaults = config.get("pooler_act", "tanh"), DEFAULTS | {"layer_norm_eps": self.norm_eps}
        said = described(config, beside, self.model_type, defaults, self._fixed(), qkv_bias)
        if not self.pooler or act == "tanh":
            return said
        if not any("ForImageClassification" in name for name in config.get("architectures") or ()):
            raise CheckpointError(f"config.json: pooler_act {act!r}: only 'tanh', or with a head, which uses no pooler")
        return replace(said, fields={**said.fields, "pre_logits": 0})  # a pooler that is used after all is unexpected

    def bare(self, file: Bare) -> Described:
        pool = {"pool": "class_dist" if has(file.hub, "head_dist") else "class"} if self.distilled else {}
        return coded("transformers", self._fixed() | pool)

    def _fixed(self) -> Json:
        """What is so whichever head there is."""
        return {name: value for name, value in self.code.items() if name != "pool" or not self.distilled}

    def conflicts(self, config: ViTConfig) -> list[str]:
        """What the class can't hold, beyond single fields."""
        problems = []
        if config.num_classes and config.pre_logits:
            problems.append(f"pre_logits {config.pre_logits}: only 0 with num_classes {config.num_classes}")
        if config.pool == "class_dist" and not config.num_classes:
            problems.append("pool 'class_dist': only 'class' without a head")
        return problems

    def write(self, config: ViTConfig, preprocess: Preprocess | None, labels: tuple[str, ...] | None) -> Files:
        said = entries(config, self.model_type, self._class_for(config)) | {
            "qkv_bias": config.qkv_bias == "all",
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            **head_entries(config, labels),
        }
        if config.pre_logits:
            said |= {"pooler_output_size": config.pre_logits, "pooler_act": "tanh"}
        notes = []
        if self.pooler and not config.num_classes and not config.pre_logits:
            load = f"{self.name}Model.from_pretrained(DIR, add_pooling_layer=False)"
            notes.append(f"there is no pooler: load it with {load}")
        return files(config, said, self.code, preprocess, notes)

    def _class_for(self, config: ViTConfig) -> str:
        head = "ForImageClassification" + "WithTeacher" * (config.pool == "class_dist")
        return self.name + (head if config.num_classes else "Model")

    def layout(self) -> Layout:
        allowed = {"qkv_bias": ("all", "none")}
        allowed |= {} if self.head else {"num_classes": (0,)}
        allowed |= {} if self.pooler else {"pre_logits": (0,)}
        allowed |= {"pool": ("class", "class_dist")} if self.distilled else {}
        headed = f"{self.name}ForImageClassification.from_pretrained(DIR), or {self.name}Model without a head"
        return Layout(
            name=f"transformers:{self.model_type}",
            summary=headed if self.head else f"{self.name}Model.from_pretrained(DIR)",
            rules=RULES,
            recognise=self.recognise,
            spell=self.spell,
            owns=lambda config: config.get("model_type") == self.model_type,
            read=self.read,
            write=self.write,
            limits=limits(self.code, **allowed),
            conflicts=self.conflicts,
            bare=self.bare,
            asides=self.asides,
            spares=SPARES,
            adapts=(zero_prefix_positions, *ZERO_BIASES),
        )


def _spelled(shapes: Mapping[str, Shape], model: str) -> Mapping[str, Spelling] | None:
    """What fills the holes: whose names these are. transformers 5 leaves ViT-MSN's prefix off its layers."""
    for layers, names in NAMES.items():
        for before in dict.fromkeys((model, "")):
            if has(shapes, f"{before}{layers}0.layernorm_before"):
                distilled = has(shapes, "distillation_classifier")
                headed = distilled or has(shapes, "classifier")
                return {
                    "model": model,
                    "layers": before + layers,
                    "classifier": "cls_classifier" if distilled else "classifier",
                    "pooler": "unused_pooler" if headed else "pre_logits",
                    **names,
                }
    return None


_MAE = (Aside("decoder.", "the decoder of masked pre-training"),)
_IJEPA = PLAIN | {"class_token": False, "pos_prefix": "none", "pool": "mean"}
KINDS = (
    Kind("vit", "ViT", "vit.", pooler=True),
    Kind("deit", "DeiT", "deit.", pooler=True, code=PLAIN | {"dist_token": True}),
    Kind("vit_msn", "ViTMSN", "vit.", norm_eps=1e-6),
    Kind("vit_mae", "ViTMAE", "vit.", head=False, asides=_MAE),
    Kind("ijepa", "IJepa", "ijepa.", code=_IJEPA),
)
LAYOUTS = tuple(kind.layout() for kind in KINDS)
