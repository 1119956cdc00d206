"""timm's classes: VisionTransformer with its options, VisionTransformerDistilled, Eva."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm

from parity_tests.families.base import Family, Saved
from parity_tests.pairs import randomise
from parity_tests.real.base import Answer
from parity_tests.real.timm import answer, make

SIZES = dict(img_size=40, patch_size=8, embed_dim=36, depth=2, num_heads=3, mlp_ratio=2.5, num_classes=11)
CONFIG = dict(image_size=(40, 40), patch_size=(8, 8), dim=36, depth=2, num_heads=3, mlp_dim=90, num_classes=11)


def saver(architecture: str, **options: Any) -> Callable[[Path], Saved]:
    """Saves an architecture of timm's as its hub does: config.json and model.safetensors."""

    def save(folder: Path) -> Saved:
        model = timm.create_model(architecture, **options)
        randomise(model, seed=1)
        timm.models.save_for_hf(model, str(folder), safe_serialization=True)
        again = [make(architecture, model.state_dict(), **options | more) for more in ({}, {"dynamic_img_size": True})]
        first, second = map(answer, again)
        return Saved(folder, first, second)

    return save


def load(folder: Path) -> Answer:
    return answer(make(f"local-dir:{folder}", pretrained=True))


def eva(name: str, architecture: str, **fields: Any) -> Family:
    save = saver(architecture, **SIZES)
    return Family(name, "timm Eva", "timm:eva", save, load, CONFIG | fields)


def vit(name: str, architecture: str, options: dict[str, Any], **fields: Any) -> Family:
    """A row for an architecture at tiny sizes: what its code and these options are as ViTConfig fields."""
    save = saver(architecture, **SIZES, **options)
    return Family(name, "timm VisionTransformer", "timm:vit", save, load, CONFIG | fields)


_BIASED = dict(qkv_bias="qv")
_AVERAGE = dict(pool="mean", final_norm="pooled")
_SWIGLU = dict(mlp="swiglu", act="silu")
_EVA02 = dict(rope="eva02", rope_theta=1e4, rope_ref_grid=16, **_BIASED, **_SWIGLU)
_DINOV3 = dict(rope="dinov3", rope_theta=100, pos_embed="none", num_registers=4, norm_eps=1e-5, layer_scale=True)
_DINOV3 |= dict(pool="mean")
_GAP = dict(class_token=False, pool="mean")
_CLIP = dict(norm_eps=1e-5, pre_norm=True, patch_bias=False)
_AIM = dict(norm="rms", norm_eps=1e-5, patch_norm=True, qkv_bias="none", proj_bias=False, mlp_bias=False)
_BEIT3 = dict(norm_eps=1e-5, attn_norm=True, mlp_norm=True)
_REGISTERS = dict(layer_scale=True, pos_prefix="none")
_RMS = dict(norm="rms", num_registers=1, pos_prefix="all", layer_scale=True, final_norm="pooled")
_OPTIONS = dict(qkv_bias=False, qk_norm=True, proj_bias=False, act_layer="silu", pos_embed="none")
_FIELDS = dict(qkv_bias="none", qk_norm=True, proj_bias=False, mlp_bias=False, act="silu", pos_embed="none")
# Those that differ most; test_presets runs every kind of architecture.
FAMILIES = (
    vit("ViT", "vit_base_patch16_224", {}),
    vit("other options", "vit_base_patch16_224", _OPTIONS, **_FIELDS),
    vit("DeiT, distilled", "deit_base_distilled_patch16_224", {}, dist_token=True, pool="class_dist"),
    vit("DeiT III", "deit3_base_patch16_224", {}, layer_scale=True, pos_prefix="none"),
    vit(
        "DINOv2 with registers",
        "vit_base_patch14_reg4_dinov2",
        {},
        layer_scale=True,
        num_registers=4,
        pos_prefix="none",
    ),
    vit("DINOv2 g", "vit_giant_patch14_dinov2", {}, layer_scale=True, **_SWIGLU, mlp_dim=45),
    vit("averaged, as MAE and EVA fine-tuned", "eva_large_patch14_196", {}, **_AVERAGE),
    vit("I-JEPA", "vit_huge_patch14_gap_224", {}, **_GAP),
    vit("registers with positions", "vit_so150m_patch16_reg4_gap_256", {}, **_GAP, num_registers=4, pos_prefix="all"),
    vit("SigLIP", "vit_so400m_patch16_siglip_384", {}, class_token=False, pool="map", act="gelu_tanh"),
    vit("CLIP", "vit_base_patch16_clip_224", {}, **_CLIP),
    vit("BEiT-3", "beit3_base_patch16_224", {}, **_BEIT3, **_AVERAGE),
    vit("RMS norm", "test_vit4", {}, class_token=False, pool="mean", **_RMS),
    vit("AIMv2", "aimv2_large_patch14_224", {}, **_AIM, **_GAP, **_SWIGLU),
    eva("EVA", "eva_giant_patch14_224", **_BIASED, **_AVERAGE),
    eva("EVA-02, packed", "eva02_tiny_patch14_224", **_EVA02, **_AVERAGE),
    eva("EVA-02", "eva02_base_patch14_224", **_EVA02, **_AVERAGE, mlp_norm=True),
    eva("DINOv3", "vit_base_patch16_dinov3", **_DINOV3, qkv_bias="none"),
    eva("DINOv3 H+", "vit_huge_plus_patch16_dinov3_qkvb", **_DINOV3, **_SWIGLU, **_BIASED, mlp_dim=96),
)
