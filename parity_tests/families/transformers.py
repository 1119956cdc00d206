"""transformers' classes: ViT, DeiT, ViT-MSN, ViT-MAE, I-JEPA, DINOv2, DINOv3, SigLIP, CLIP."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from hypothesis import strategies as st

from parity_tests.families.base import Family, Saved
from parity_tests.families.originals import square
from parity_tests.pairs import randomise
from parity_tests.real.base import Answer
from parity_tests.real.transformers import Model, answer
from parity_tests.strategies import configs
from vit_convert.config import ViTConfig
from vit_convert.layouts import Layout
from vit_convert.layouts.base import Bare
from vit_convert.layouts.transformers import TRANSFORMERS
from vit_convert.layouts.transformers.dinov2 import swiglu_width

SIZES = dict(
    hidden_size=36, num_hidden_layers=2, num_attention_heads=3, intermediate_size=90, image_size=40, patch_size=8
)
READ = dict(image_size=40, patch_size=8, dim=36, depth=2, num_heads=3, mlp_dim=90, norm_eps=1e-12, pos_resize="bicubic")
HEAD = {"num_classes": 11}


@dataclass(frozen=True)
class Row:
    """A class of transformers, how it is made, and what it is read as."""

    name: str
    cls: type
    config: Callable[[], Any]
    layout: str
    read: dict[str, Any]
    made: dict[str, Any] = field(default_factory=dict)  # arguments of the class
    loaded: dict[str, Any] = field(default_factory=dict)  # arguments of from_pretrained
    resizing: dict[str, Any] | None = field(default_factory=lambda: {"interpolate_pos_encoding": True})
    auto: Any = transformers.AutoModelForImageClassification
    again: type | None = None  # the class of what is written back, if it is another
    method: str = "__call__"
    more: dict[str, Any] = field(default_factory=dict)  # of the Family

    def make(self) -> Model:
        model = self.cls(self.config(), **self.made)
        randomise(model, seed=1)
        return model

    def save(self, folder: Path) -> Saved:
        model = self.make()
        model.save_pretrained(folder)
        resized = None if self.resizing is None else answer(model, self.method, **self.resizing)
        return Saved(folder, answer(model, self.method), resized)

    def load(self, folder: Path) -> Answer:
        """Through the Auto class, which has to find this class and every tensor of it."""
        model, report = self.auto.from_pretrained(folder, output_loading_info=True, **self.loaded)
        assert type(model) is (self.again or self.cls)
        assert not any(report.values()), report
        return answer(model)

    def family(self) -> Family:
        return Family(
            name=self.name,
            real=f"transformers {self.cls.__name__}",
            layout=f"transformers:{self.layout}",
            save=self.save,
            load=self.load,
            config=READ | self.read,
            **self.more,
        )


def maker(cls: type, **options: Any) -> Callable[[], Any]:
    return lambda: cls(**{**SIZES, **options})


def ratio(cls: type, **options: Any) -> Callable[[], Any]:
    """Of a config class that takes mlp_ratio instead of intermediate_size."""
    sizes = {name: value for name, value in SIZES.items() if name != "intermediate_size"}
    return lambda: cls(**sizes, mlp_ratio=2, **options)


WITHOUT_HEAD: dict[str, Any] = {"auto": transformers.AutoModel}
CLASSES = {"num_labels": 11}
DINOV2: dict[str, Any] = {"norm_eps": 1e-6, "layer_scale": True, "mlp_dim": 72}
GIANT: dict[str, Any] = {"mlp": "swiglu", "act": "silu", "mlp_dim": 48}
REGISTERS: dict[str, Any] = {"num_registers": 4, "pos_resize": "bicubic_antialias"}
MASKS = {"beside": ("embeddings.mask_token", "dinov2.embeddings.mask", "dinov2_with_registers.embeddings.mask")}
ALWAYS: dict[str, Any] = {"resizing": {}, "more": MASKS}  # resizes without being asked


def towers(cls: type, **options: Any) -> Callable[[], Any]:
    """Of a config class with two towers."""
    text = dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=20, vocab_size=10)
    return lambda: cls(vision_config=dict(SIZES), text_config=text, **options)


DINOV3: dict[str, Any] = {"norm_eps": 1e-5, "layer_scale": True, "pos_embed": "none", "rope": "dinov3"}
DINOV3 |= {"rope_theta": 100.0}
SIGLIP: dict[str, Any] = {"class_token": False, "act": "gelu_tanh", "norm_eps": 1e-6}
CLIP = "clip_vision_model"
CLIPS: dict[str, Any] = {"norm_eps": 1e-5, "act": "quick_gelu", "pre_norm": True, "patch_bias": False}
BARE_TOWER: dict[str, Any] = {"more": {"renamed": True}}  # transformers 5 saves it without its prefix
TOWER: dict[str, Any] = {"method": "get_image_features", "more": {"renamed": True}}
ROWS = (
    Row("ViT", transformers.ViTForImageClassification, maker(transformers.ViTConfig, **CLASSES), "vit", HEAD),
    Row(
        "ViT, one channel, no qkv bias, quick GELU",
        transformers.ViTForImageClassification,
        maker(transformers.ViTConfig, **CLASSES, num_channels=1, qkv_bias=False, hidden_act="quick_gelu"),
        "vit",
        HEAD | {"in_channels": 1, "qkv_bias": "none", "act": "quick_gelu"},
    ),
    Row(
        "ViT with a pooler",
        transformers.ViTModel,
        maker(transformers.ViTConfig, pooler_output_size=13),
        "vit",
        {"pre_logits": 13},
        **WITHOUT_HEAD,
    ),
    Row(
        "ViT without a pooler",
        transformers.ViTModel,
        maker(transformers.ViTConfig),
        "vit",
        {},
        made={"add_pooling_layer": False},
        loaded={"add_pooling_layer": False},
        **WITHOUT_HEAD,
    ),
    Row(
        "DeiT, distilled",
        transformers.DeiTForImageClassificationWithTeacher,
        maker(transformers.DeiTConfig, **CLASSES),
        "deit",
        HEAD | {"dist_token": True, "pool": "class_dist"},
    ),
    Row(
        "DeiT with one head",
        transformers.DeiTForImageClassification,
        maker(transformers.DeiTConfig, **CLASSES),
        "deit",
        HEAD | {"dist_token": True},
    ),
    Row(
        "ViT-MSN",
        transformers.ViTMSNModel,
        maker(transformers.ViTMSNConfig),
        "vit_msn",
        {"norm_eps": 1e-6},
        **WITHOUT_HEAD,
    ),
    Row("ViT-MAE", transformers.ViTMAEModel, maker(transformers.ViTMAEConfig), "vit_mae", {}, **WITHOUT_HEAD),
    Row(
        "I-JEPA",
        transformers.IJepaForImageClassification,
        maker(transformers.IJepaConfig, **CLASSES),
        "ijepa",
        HEAD | {"class_token": False, "pool": "mean"},
    ),
    Row(
        "DINOv2",
        transformers.Dinov2ForImageClassification,
        ratio(transformers.Dinov2Config, **CLASSES),
        "dinov2",
        HEAD | DINOV2 | {"pool": "class_mean"},
        **ALWAYS,
    ),
    Row(
        "DINOv2 giant",
        transformers.Dinov2Model,
        ratio(transformers.Dinov2Config, use_swiglu_ffn=True),
        "dinov2",
        DINOV2 | GIANT,
        **WITHOUT_HEAD | ALWAYS,
    ),
    Row(
        "DINOv2 with registers",
        transformers.Dinov2WithRegistersForImageClassification,
        ratio(transformers.Dinov2WithRegistersConfig, **CLASSES),
        "dinov2_with_registers",
        HEAD | DINOV2 | REGISTERS | {"pool": "class_mean"},
        **ALWAYS,
    ),
    Row(
        "DINOv2 giant with registers, no qkv bias",
        transformers.Dinov2WithRegistersModel,
        ratio(transformers.Dinov2WithRegistersConfig, use_swiglu_ffn=True, qkv_bias=False),
        "dinov2_with_registers",
        DINOV2 | GIANT | REGISTERS | {"qkv_bias": "none"},
        **WITHOUT_HEAD | ALWAYS,
    ),
    Row(
        "DINOv3",
        transformers.DINOv3ViTModel,
        maker(transformers.DINOv3ViTConfig, num_register_tokens=4),
        "dinov3_vit",
        DINOV3 | {"num_registers": 4, "qkv_bias": "qv"},
        **WITHOUT_HEAD | ALWAYS,
    ),
    Row(
        "DINOv3 with a gated MLP, no registers, a bias for the keys",
        transformers.DINOv3ViTModel,
        maker(transformers.DINOv3ViTConfig, use_gated_mlp=True, key_bias=True, hidden_act="silu", rope_theta=50.0),
        "dinov3_vit",
        DINOV3 | {"mlp": "swiglu", "act": "silu", "rope_theta": 50.0},
        **WITHOUT_HEAD | ALWAYS,
    ),
    Row(
        "SigLIP",
        transformers.SiglipVisionModel,
        maker(transformers.SiglipVisionConfig),
        "siglip_vision_model",
        SIGLIP | {"pool": "map"},
        **WITHOUT_HEAD | BARE_TOWER,
    ),
    Row(
        "SigLIP with its text tower",
        transformers.SiglipModel,
        towers(transformers.SiglipConfig),
        "siglip_vision_model",
        SIGLIP | {"pool": "map"},
        again=transformers.SiglipVisionModel,
        **WITHOUT_HEAD | TOWER,
    ),
    Row(
        "SigLIP with a classifier",
        transformers.SiglipForImageClassification,
        towers(transformers.SiglipConfig, **CLASSES),
        "siglip_vision_model",
        HEAD | SIGLIP | {"pool": "mean"},
        more={"beside": ("vision_model.head.",)},
    ),
    Row(
        "CLIP",
        transformers.CLIPVisionModel,
        maker(transformers.CLIPVisionConfig),
        CLIP,
        CLIPS,
        **WITHOUT_HEAD | BARE_TOWER,
    ),
    Row(
        "CLIP with its projection",
        transformers.CLIPVisionModelWithProjection,
        maker(transformers.CLIPVisionConfig, projection_dim=11, hidden_act="gelu"),
        CLIP,
        HEAD | CLIPS | {"head_bias": False, "act": "gelu"},
        auto=transformers.CLIPVisionModelWithProjection,
    ),
    Row(
        "CLIP with its text tower",
        transformers.CLIPModel,
        towers(transformers.CLIPConfig, projection_dim=11),
        CLIP,
        HEAD | CLIPS | {"head_bias": False},
        auto=transformers.CLIPVisionModelWithProjection,
        **TOWER,
        again=transformers.CLIPVisionModelWithProjection,
    ),
    Row(
        "CLIP with a classifier",
        transformers.CLIPForImageClassification,
        towers(transformers.CLIPConfig, **CLASSES),
        CLIP,
        HEAD | CLIPS | {"pool": "mean", "final_norm": "none"},
        more={"beside": ("vision_model.post_layernorm.",)},
    ),
)
FAMILIES = tuple(row.family() for row in ROWS)


def held(layout: Layout) -> st.SearchStrategy[ViTConfig]:
    """Configs that a layout holds: within its limits, and with what follows from other fields."""
    fixed = {name: st.sampled_from(values) for name, values in layout.limits.items()}
    if layout.name.endswith("_with_registers"):
        fixed["num_registers"] = st.just(10)
    fit = FITTING.get(layout.name.partition(":")[2], lambda config: config)
    return configs(**fixed).map(fit).filter(lambda config: not layout.problems(config))


def no_data(name: str) -> np.ndarray:
    raise AssertionError(f"{name} is read to learn what the code alone says")


def fit_dinov2(config: ViTConfig) -> ViTConfig:
    gated = config.mlp == "swiglu"
    width = swiglu_width(config.dim, 2) if gated else 2 * config.dim
    pool = "class_mean" if config.num_classes else "class"
    return square(config).replace(mlp_dim=width, act="silu" if gated else config.act, pool=pool)


def fit_clip(config: ViTConfig) -> ViTConfig:
    normed = "none" if config.pool == "mean" else "tokens"
    return square(config).replace(final_norm=normed, head_bias=config.pool == "mean" or not config.num_classes)


FITTING = {
    "dinov2": fit_dinov2,
    "dinov2_with_registers": fit_dinov2,
    "siglip_vision_model": square,
    "clip_vision_model": fit_clip,
}
HELD = {layout.name: held(layout) for layout in TRANSFORMERS}
# By which rule each resizes positions, whatever a config says.
RESIZE = {layout.name: layout.bare(Bare({}, {}, no_data)).fields["pos_resize"] for layout in TRANSFORMERS}
