"""What Meta's repositories build, under their own names: DINO, MAE, DINOv2, DINOv3.

References:
    https://github.com/facebookresearch/dino hubconf.py, mae models_mae.py, models_vit.py
    https://github.com/facebookresearch/dinov2 hub/backbones.py, dinov3 hub/backbones.py
"""

from vit_convert.presets.family import Family

_SWIGLU = {"mlp": "swiglu", "act": "silu"}
_GIANT2 = {"dim": 1536, "num_heads": 24, "mlp_dim": 4096, **_SWIGLU}
_DINOV2 = {"layer_scale": True}
_DINOV2_HUB = "Oquab et al. 2023 (DINOv2), Darcet et al. 2023 (registers), facebookresearch/dinov2 hub/backbones.py"
_MAE = "base/16 224, large/16 224, huge/14 224"
_DINOV3_HUB = (
    "Siméoni et al. 2025 (DINOv3), facebookresearch/dinov3 hub/backbones.py; the files' periods are in bfloat16"
)
_DINOV3 = {"rope": "dinov3", "rope_theta": 100, "pos_embed": "none", "num_registers": 4, "layer_scale": True}
_DINOV3 |= {"norm_eps": 1e-5, "qkv_bias": "qv", "rope_round_periods": "bfloat16"}

FAMILIES = (
    Family(
        "dino_vit{letter}{patch}",
        "Caron et al. 2021 (DINO), facebookresearch/dino hubconf.py",
        {"pos_resize": "bicubic_offset"},
        "small/16 224, small/8 224, base/16 224, base/8 224",
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
        "small/14 518, base/14 518, large/14 518",
        "dinov2",
    ),
    Family(
        "dinov2_vit{letter}{patch}",
        _DINOV2_HUB,
        _DINOV2 | {"pos_resize": "bicubic_offset"} | _GIANT2,
        "giant/14 518",
        "dinov2",
    ),
    Family(
        "dinov2_vit{letter}{patch}_reg",
        _DINOV2_HUB,
        _DINOV2 | {"num_registers": 4},
        "small/14 518, base/14 518, large/14 518",
        "dinov2",
    ),
    Family(
        "dinov2_vit{letter}{patch}_reg",
        _DINOV2_HUB,
        _DINOV2 | {"num_registers": 4} | _GIANT2,
        "giant/14 518",
        "dinov2",
    ),
    Family(
        "dinov3_vit{letter}{patch}",
        _DINOV3_HUB,
        _DINOV3,
        "small/16 224, base/16 224, large/16 224",
        "dinov3",
    ),
    Family(
        "dinov3_vit{letter}{patch}plus",
        _DINOV3_HUB,
        _DINOV3 | _SWIGLU,
        "small_plus/16 224, large/16 224, huge_plus/16 224",
        "dinov3",
    ),
    Family(
        "dinov3_vit{size}{patch}",
        _DINOV3_HUB,
        _DINOV3 | _SWIGLU | {"qkv_bias": "none"},
        "7b/16 224",
        "dinov3",
    ),
)
