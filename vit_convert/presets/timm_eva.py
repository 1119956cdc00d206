"""The architectures of timm's Eva that ViTConfig can say, under timm's names.

References:
    https://github.com/huggingface/pytorch-image-models timm/models/eva.py
"""

from vit_convert.presets.family import Family

_SWIGLU = {"mlp": "swiglu", "act": "silu"}
_AVERAGE = {"pool": "mean", "final_norm": "pooled"}
_EVA02 = {"rope": "eva02", "rope_theta": 10_000, "rope_ref_grid": 16, "qkv_bias": "qv"}
_EVA02_CLIP = _EVA02 | _SWIGLU | {"attn_norm": True, "mlp_norm": True}
_DINOV3 = {"rope": "dinov3", "rope_theta": 100, "pos_embed": "none", "num_registers": 4}
_DINOV3 |= {"norm_eps": 1e-5, "layer_scale": True, "pool": "mean", "qkv_bias": "none"}
_BIASED = {"qkv_bias": "qv"}
_LINGBOT = _DINOV3 | _BIASED | {"pool": "class"}
_ROPE = {"num_classes": 1000, **_EVA02, **_AVERAGE, "class_token": False, "pos_embed": "none", "layer_scale": True}

_FANG = "Fang et al. 2022 (EVA)"
_FANG2 = "Fang et al. 2023 (EVA-02)"
_SIMEONI = (
    "Siméoni et al. 2025 (DINOv3), as timm runs it: it averages the patches and has exact periods. Meta's code "
    "has pool=class and rope_round_periods=bfloat16"
)
_TIMM = "timm's own trainings (Wightman 2024)"

FAMILIES = (
    Family(
        "eva_{size}_patch{patch}_{image}", _FANG, {"num_classes": 1000, **_BIASED, **_AVERAGE}, "giant/14 224 336 560"
    ),
    Family("eva_{size}_patch{patch}_clip_{image}", f"{_FANG}, its CLIP", _BIASED, "giant/14 224"),
    Family(
        "eva02_{size}_patch{patch}_{image}", _FANG2, _EVA02 | _SWIGLU | _AVERAGE | {"mlp_dim": 512}, "tiny/14 224 336"
    ),
    Family(
        "eva02_{size}_patch{patch}_{image}", _FANG2, _EVA02 | _SWIGLU | _AVERAGE | {"mlp_dim": 1024}, "small/14 224 336"
    ),
    Family(
        "eva02_{size}_patch{patch}_{image}",
        _FANG2,
        _EVA02 | _SWIGLU | _AVERAGE | {"mlp_dim": 2048, "mlp_norm": True},
        "base/14 224 448",
    ),
    Family(
        "eva02_{size}_patch{patch}_{image}",
        _FANG2,
        _EVA02 | _SWIGLU | _AVERAGE | {"mlp_dim": 2730, "mlp_norm": True},
        "large/14 224 448",
    ),
    Family(
        "eva02_{size}_patch{patch}_clip_{image}", f"{_FANG2}, its CLIP", _EVA02_CLIP | {"mlp_dim": 2048}, "base/16 224"
    ),
    Family(
        "eva02_{size}_patch{patch}_clip_{image}",
        f"{_FANG2}, its CLIP",
        _EVA02_CLIP | {"mlp_dim": 2730},
        "large/14 224 336",
    ),
    Family("vit_{size}_patch{patch}_dinov3", _SIMEONI, _DINOV3, "small/16 256, base/16 256, large/16 256"),
    Family(
        "vit_{size}_patch{patch}_dinov3", _SIMEONI, _DINOV3 | _SWIGLU, "small_plus/16 256, huge_plus/16 256, 7b/16 256"
    ),
    Family(
        "vit_{size}_patch{patch}_dinov3_qkvb",
        _SIMEONI,
        _DINOV3 | _BIASED,
        "tiny/16 256, small/16 256, base/16 256, large/16 256",
    ),
    Family(
        "vit_{size}_patch{patch}_dinov3_qkvb",
        _SIMEONI,
        _DINOV3 | _BIASED | _SWIGLU,
        "small_plus/16 256, huge_plus/16 256",
    ),
    Family("vit_{size}_patch{patch}_lingbot", "LingBot, a DINOv3", _LINGBOT, "small/16 512, base/16 512, large/16 512"),
    Family(
        "vit_{size}_patch{patch}_lingbot",
        "LingBot, a DINOv3",
        _LINGBOT | _SWIGLU | {"dim": 1536, "num_heads": 24, "mlp_dim": 4096, "qkv_bias": "none"},
        "giant/16 512",
    ),
    Family(
        "vit_{size}_patch{patch}_rope_reg1_gap_{image}",
        _TIMM,
        _ROPE | {"num_registers": 1},
        "medium/16 256, base/16 256",
    ),
    Family(
        "vit_{size}_patch{patch}_rope_reg1_gap_{image}",
        _TIMM,
        _ROPE | {"num_registers": 1, "qkv_bias": "none"},
        "mediumd/16 256",
    ),
    Family("vit_{size}_patch{patch}_rope_reg4_gap_{image}", _TIMM, _ROPE | {"num_registers": 4}, "betwixt/16 256"),
)
