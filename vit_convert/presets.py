"""Named configs, with the names and the maths that timm or the original repositories give them: `vit_base_patch16_224`.

A name fixes the function, not the weights: whose weights they are, and how they were trained, is up to the file.
A name that timm and a repository share, such as DeiT's, is timm's function.
"""

from dataclasses import dataclass
from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.hub import num_parameters

# Size -> dim, depth, num_heads, mlp_dim
SIZES = {
    "tiny": (192, 12, 3, 768),
    "small": (384, 12, 6, 1536),
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
    "huge": (1280, 32, 16, 5120),
    "giant": (1408, 40, 16, 6144),
    "gigantic": (1664, 48, 16, 8192),
    "so400m": (1152, 27, 16, 4304),
    "small_plus": (384, 12, 6, 1536),
    "huge_plus": (1280, 32, 20, 5120),
    "7b": (4096, 40, 32, 8192),
}


@dataclass(frozen=True)
class Family:
    """What all sizes of a family share. `{size}`, its `{letter}`, `{patch}` and `{image}` fill the name."""

    name: str
    source: str
    fields: dict[str, Any]
    variants: tuple[tuple[str, int, int], ...]  # size, patch, image
    origin: str = "timm"  # whose name and function it is


@dataclass(frozen=True)
class Preset:
    """A config with a name."""

    config: ViTConfig
    source: str
    origin: str = "timm"

    @property
    def parameters(self) -> int:
        return num_parameters(self.config)


_CLIP = {"norm_eps": 1e-5, "pre_norm": True, "patch_bias": False}
_SIGLIP = {"class_token": False, "pool": "map"}
_DINOV2 = {"layer_scale": True}
_SWIGLU = {"mlp": "swiglu", "act": "silu"}
_DINOV3 = {"rope": "dinov3", "rope_theta": 100, "pos_embed": "none", "num_registers": 4, "layer_scale": True}
_DINOV3 |= {"norm_eps": 1e-5, "pool": "mean", "qkv_bias": "none"}
_DINOV3_SOURCE = (
    "Siméoni et al. 2025 (DINOv3), as timm runs it: mean of the patches, exact periods. "
    "Meta's code has pool=class and rope_round_periods=bfloat16"
)
_EVA02 = {"rope": "eva02", "rope_theta": 10_000, "rope_ref_grid": 16, "qkv_bias": "qv", **_SWIGLU}
_EVA02 |= {"pool": "mean", "final_norm": "pooled"}
# Size -> mlp_dim (8/3 of dim, rounded down), whether the mlp has a norm, and the image size of the fine-tuned models
_EVA02_SIZES = {
    "tiny": (512, False, 336),
    "small": (1024, False, 336),
    "base": (2048, True, 448),
    "large": (2730, True, 448),
}
_DINOV2_HUB = "Oquab et al. 2023 (DINOv2), Darcet et al. 2023 (registers), facebookresearch/dinov2 hub/backbones.py"
_GIANT2 = {"dim": 1536, "num_heads": 24, "mlp_dim": 4096, **_SWIGLU}
_MAE = (("base", 16, 224), ("large", 16, 224), ("huge", 14, 224))
_DINOV3_HUB = (
    "Siméoni et al. 2025 (DINOv3), facebookresearch/dinov3 hub/backbones.py; the files' periods are in bfloat16"
)
_DINOV3_META = _DINOV3 | {"pool": "class", "qkv_bias": "qv", "rope_round_periods": "bfloat16"}
_DEIT3 = {"num_classes": 1000, "layer_scale": True, "pos_prefix": "none"}

FAMILIES = (
    Family(
        "vit_{size}_patch{patch}_{image}",
        "Dosovitskiy et al. 2021 and Steiner et al. 2021 (AugReg); g and G: Zhai et al. 2022",
        {"num_classes": 1000},
        (
            *(("tiny", 16, image) for image in (224, 384)),
            *(("small", patch, image) for patch in (32, 16) for image in (224, 384)),
            ("small", 8, 224),
            *(("base", patch, image) for patch in (32, 16) for image in (224, 384)),
            ("base", 8, 224),
            *(("large", patch, image) for patch in (32, 16) for image in (224, 384)),
            *((size, 14, 224) for size in ("large", "huge", "giant", "gigantic")),
        ),
    ),
    Family(
        "vit_{size}_patch{patch}_siglip_{image}",
        "Zhai et al. 2023 (SigLIP); So400m: Alabdulmohsin et al. 2023. timm runs exact GELU here",
        _SIGLIP,
        (
            *(("base", 16, image) for image in (224, 256, 384, 512)),
            *(("large", 16, image) for image in (256, 384)),
            *(("so400m", 14, image) for image in (224, 378)),
        ),
    ),
    Family(
        "vit_{size}_patch{patch}_siglip_{image}",
        "Zhai et al. 2023 (SigLIP); So400m: Alabdulmohsin et al. 2023",
        _SIGLIP | {"act": "gelu_tanh"},
        (("base", 32, 256), ("large", 16, 512), *(("so400m", 16, image) for image in (256, 384, 512))),
    ),
    Family(
        "vit_{size}_patch{patch}_clip_{image}",
        "Radford et al. 2021 (CLIP), as in open_clip",
        _CLIP,
        (
            *(("base", patch, 224) for patch in (32, 16)),
            *(("large", 14, image) for image in (224, 336)),
            *((size, 14, 224) for size in ("huge", "giant", "gigantic")),
        ),
    ),
    Family(
        "vit_{size}_patch{patch}_clip_quickgelu_{image}",
        "Radford et al. 2021 (CLIP), as in openai/CLIP",
        _CLIP | {"act": "quick_gelu"},
        (("base", 32, 224), ("base", 16, 224), ("large", 14, 224), ("large", 14, 336)),
    ),
    Family(
        "deit_{size}_patch{patch}_{image}",
        "Touvron et al. 2021 (DeiT), as timm runs it: its own fine-tuning resizes positions without antialias",
        {"num_classes": 1000},
        (("tiny", 16, 224), ("small", 16, 224), ("base", 16, 224), ("base", 16, 384)),
    ),
    Family(
        "deit_{size}_distilled_patch{patch}_{image}",
        "Touvron et al. 2021 (DeiT)",
        {"num_classes": 1000, "dist_token": True, "pool": "class_dist"},
        (("tiny", 16, 224), ("small", 16, 224), ("base", 16, 224), ("base", 16, 384)),
    ),
    Family(
        "deit3_{size}_patch{patch}_{image}",
        "Touvron et al. 2022 (DeiT III)",
        _DEIT3,
        (*((size, 16, image) for size in ("small", "base", "large") for image in (224, 384)), ("huge", 14, 224)),
    ),
    Family(
        "vit_{size}_patch{patch}_dinov2",
        "Oquab et al. 2023 (DINOv2), as timm runs it: no offset when resizing positions",
        _DINOV2,
        tuple((size, 14, 518) for size in ("small", "base", "large")),
    ),
    Family(
        "vit_{size}_patch{patch}_reg4_dinov2",
        "Darcet et al. 2023 (registers), as timm runs it: the class position is added to the class token",
        _DINOV2 | {"num_registers": 4, "pos_prefix": "none"},
        tuple((size, 14, 518) for size in ("small", "base", "large")),
    ),
    Family(
        "vit_{size}_patch{patch}_dinov2",
        "Oquab et al. 2023 (DINOv2), as timm runs it: no offset when resizing positions",
        _DINOV2 | _GIANT2,
        (("giant", 14, 518),),
    ),
    Family(
        "vit_{size}_patch{patch}_dinov3",
        _DINOV3_SOURCE,
        _DINOV3,
        tuple((size, 16, 256) for size in ("small", "base", "large")),
    ),
    Family(
        "vit_{size}_patch{patch}_dinov3",
        _DINOV3_SOURCE,
        _DINOV3 | _SWIGLU,
        tuple((size, 16, 256) for size in ("small_plus", "huge_plus", "7b")),
    ),
    Family(
        "vit_{size}_patch{patch}_dinov3_qkvb",
        _DINOV3_SOURCE,
        _DINOV3 | {"qkv_bias": "qv"},
        tuple((size, 16, 256) for size in ("tiny", "small", "base", "large")),
    ),
    Family(
        "vit_{size}_patch{patch}_dinov3_qkvb",
        _DINOV3_SOURCE,
        _DINOV3 | _SWIGLU | {"qkv_bias": "qv"},
        tuple((size, 16, 256) for size in ("small_plus", "huge_plus")),
    ),
    *(
        Family(
            "eva02_{size}_patch{patch}_{image}",
            "Fang et al. 2023 (EVA-02)",
            _EVA02 | {"mlp_dim": mlp_dim, "mlp_norm": mlp_norm, "num_classes": classes},
            ((size, 14, image),),
        )
        for size, (mlp_dim, mlp_norm, fine_tuned) in _EVA02_SIZES.items()
        for image, classes in ((224, 0), (fine_tuned, 1000))
    ),
    Family(
        "dino_vit{letter}{patch}",
        "Caron et al. 2021 (DINO), facebookresearch/dino hubconf.py",
        {"pos_resize": "bicubic_offset"},
        tuple((size, patch, 224) for size in ("small", "base") for patch in (16, 8)),
        "dino",
    ),
    Family(
        "mae_vit_{size}_patch{patch}",
        "He et al. 2022 (MAE): the encoder of pre-training, facebookresearch/mae models_mae.py",
        {"pos_resize": "bicubic"},
        _MAE,
        "mae",
    ),
    Family(
        "mae_vit_{size}_patch{patch}_finetuned",
        "He et al. 2022 (MAE): fine-tuned with --global_pool, facebookresearch/mae models_vit.py",
        {"pos_resize": "bicubic", "num_classes": 1000, "pool": "mean", "final_norm": "pooled"},
        _MAE,
        "mae",
    ),
    Family(
        "dinov2_vit{letter}{patch}",
        _DINOV2_HUB,
        _DINOV2 | {"pos_resize": "bicubic_offset"},
        tuple((size, 14, 518) for size in ("small", "base", "large")),
        "dinov2",
    ),
    Family(
        "dinov2_vit{letter}{patch}",
        _DINOV2_HUB,
        _DINOV2 | {"pos_resize": "bicubic_offset"} | _GIANT2,
        (("giant", 14, 518),),
        "dinov2",
    ),
    Family(
        "dinov2_vit{letter}{patch}_reg",
        _DINOV2_HUB,
        _DINOV2 | {"num_registers": 4},
        tuple((size, 14, 518) for size in ("small", "base", "large")),
        "dinov2",
    ),
    Family(
        "dinov2_vit{letter}{patch}_reg",
        _DINOV2_HUB,
        _DINOV2 | {"num_registers": 4} | _GIANT2,
        (("giant", 14, 518),),
        "dinov2",
    ),
    Family(
        "dinov3_vit{letter}{patch}",
        _DINOV3_HUB,
        _DINOV3_META,
        tuple((size, 16, 224) for size in ("small", "base", "large")),
        "dinov3",
    ),
    Family(
        "dinov3_vit{letter}{patch}plus",
        _DINOV3_HUB,
        _DINOV3_META | _SWIGLU,
        tuple((size, 16, 224) for size in ("small_plus", "large", "huge_plus")),
        "dinov3",
    ),
    Family(
        "dinov3_vit{size}{patch}",
        _DINOV3_HUB,
        _DINOV3_META | _SWIGLU | {"qkv_bias": "none"},
        (("7b", 16, 224),),
        "dinov3",
    ),
)


def _config(family: Family, size: str, patch: int, image: int) -> ViTConfig:
    dim, depth, num_heads, mlp_dim = SIZES[size]
    sizes = {"dim": dim, "depth": depth, "num_heads": num_heads, "mlp_dim": mlp_dim}
    return ViTConfig(**{"image_size": image, "patch_size": patch, **sizes, **family.fields})


def _name(family: Family, size: str, patch: int, image: int) -> str:
    return family.name.format(size=size, letter=size[0], patch=patch, image=image)


PRESETS = {
    _name(family, *variant): Preset(_config(family, *variant), family.source, family.origin)
    for family in FAMILIES
    for variant in family.variants
}


def get_preset(name: str) -> Preset:
    """Raises CheckpointError for a name that is no preset, with those that are nearest."""
    if name not in PRESETS:
        from difflib import get_close_matches

        near = get_close_matches(name, PRESETS, n=5) or list(PRESETS)
        raise CheckpointError(f"unknown preset {name!r}; did you mean {', '.join(near)}?")
    return PRESETS[name]
