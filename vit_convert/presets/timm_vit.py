"""The architectures of timm's VisionTransformer that ViTConfig can say, under timm's names.

References:
    https://github.com/huggingface/pytorch-image-models timm/models/vision_transformer.py, deit.py
"""

from vit_convert.presets.family import Family

_NO_CLASS = {"class_token": False, "pool": "mean"}
_CLIP = {"norm_eps": 1e-5, "pre_norm": True, "patch_bias": False}
_SIGLIP = {"class_token": False, "pool": "map"}
_SIGLIP_SIZES = "base/16 224 256 384 512, large/16 256 384, so400m/14 224 378"
_SIGLIP_TANH_SIZES = "base/32 256, large/16 512, so400m/16 256 384 512, giantopt/16 256 384"
_DISTILLED = {"num_classes": 1000, "dist_token": True, "pool": "class_dist"}
_DINOV2 = {"layer_scale": True}
_REGISTERS = {"layer_scale": True, "pos_prefix": "none"}
_GIANT_SWIGLU = {"dim": 1536, "num_heads": 24, "mlp_dim": 4096, "mlp": "swiglu", "act": "silu"}
_PLUS = {"dim": 896, "num_heads": 14, "mlp_dim": 3584}
_RADIO = {"pos_prefix": "none", "final_norm": "none"}
_GAP = {"num_classes": 1000, **_NO_CLASS, "layer_scale": True}  # timm's own trainings
_FC_NORM = {"num_classes": 1000, "pool": "mean", "final_norm": "pooled"}
_TEST = {"num_classes": 1000, "num_heads": 3, "dim": 96, "depth": 9, "mlp_dim": 192}
_TEST_REGISTER = _TEST | _NO_CLASS | {"layer_scale": True, "num_registers": 1, "pos_prefix": "all"}

_AIM = {"depth": 24, **_NO_CLASS, "norm": "rms", "norm_eps": 1e-5, "patch_norm": True, "mlp": "swiglu", "act": "silu"}
_AIM |= {"qkv_bias": "none", "proj_bias": False, "mlp_bias": False}

_TIMM = "timm's own trainings (Wightman 2024)"
_GOOGLE = "Dosovitskiy et al. 2021 and Steiner et al. 2021 (AugReg); g and G: Zhai et al. 2022"
_OPEN_CLIP = "Radford et al. 2021 (CLIP), as in open_clip"
_SIGLIP_GELU = "Zhai et al. 2023 (SigLIP); So400m: Alabdulmohsin et al. 2023. timm runs exact GELU here"
_SIGLIP_TANH = "Zhai et al. 2023 (SigLIP) and Tschannen et al. 2025 (SigLIP 2); So400m: Alabdulmohsin et al. 2023"
_DEIT = "Touvron et al. 2021 (DeiT), as timm runs it: its own fine-tuning resizes positions without antialias"
_OQUAB = "Oquab et al. 2023 (DINOv2), as timm runs it: no offset when resizing positions"
_DARCET = "Darcet et al. 2023 (registers), as timm runs it: the class position is added to the class token"
_TIPS = "Maninis et al. 2025 (TIPS) and its second version, as timm runs it"
_RANZINGER = "Ranzinger et al. 2024 (RADIO), as timm runs it: one table of positions, no crop of it"

FAMILIES = (
    Family(
        "vit_{size}_patch{patch}_{image}",
        _GOOGLE,
        {"num_classes": 1000},
        "tiny/16 224 384, small/32 224 384, small/16 224 384, small/8 224, base/32 224 384, base/16 224 384, "
        "base/8 224, large/32 224 384, large/16 224 384, large/14 224, huge/14 224, giant/14 224, gigantic/14 224",
    ),
    Family("vit_{size}_patch{patch}_siglip_{image}", _SIGLIP_GELU, _SIGLIP, _SIGLIP_SIZES),
    Family("vit_{size}_patch{patch}_siglip_{image}", _SIGLIP_TANH, _SIGLIP | {"act": "gelu_tanh"}, _SIGLIP_TANH_SIZES),
    Family(
        "vit_{size}_patch{patch}_siglip_gap_{image}",
        f"{_SIGLIP_GELU}. 448 and 896: Beyer et al. 2024 (PaliGemma)",
        _NO_CLASS,
        f"{_SIGLIP_SIZES}, so400m/14 448 896",
    ),
    Family(
        "vit_{size}_patch{patch}_siglip_gap_{image}",
        _SIGLIP_TANH,
        _NO_CLASS | {"act": "gelu_tanh"},
        _SIGLIP_TANH_SIZES,
    ),
    Family(
        "vit_{size}_patch{patch}_clip_{image}",
        _OPEN_CLIP,
        _CLIP,
        "xsmall/16 224, medium/32 224, medium/16 224, betwixt/32 224, base/32 224 256 384 448, base/16 224 384, "
        "large/14 224 336, huge/14 224 336 378, giant/14 224, gigantic/14 224 378",
    ),
    Family("vit_{size}_patch{patch}_plus_clip_{image}", _OPEN_CLIP, _CLIP | _PLUS, "base/16 240"),
    Family(
        "vit_{size}_patch{patch}_clip_quickgelu_{image}",
        "Radford et al. 2021 (CLIP), as in openai/CLIP; H and G: Fang et al. 2023 (DFN) and Xu et al. 2023 (MetaCLIP)",
        _CLIP | {"act": "quick_gelu"},
        "base/32 224, base/16 224, large/14 224 336, huge/14 224 378, gigantic/14 224",
    ),
    Family(
        "deit_{size}_patch{patch}_{image}",
        _DEIT,
        {"num_classes": 1000},
        "tiny/16 224, small/16 224, base/16 224 384",
    ),
    Family(
        "deit_{size}_distilled_patch{patch}_{image}",
        _DEIT,
        _DISTILLED,
        "tiny/16 224, small/16 224, base/16 224 384",
    ),
    Family(
        "deit3_{size}_patch{patch}_{image}",
        "Touvron et al. 2022 (DeiT III)",
        {"num_classes": 1000, "layer_scale": True, "pos_prefix": "none"},
        "small/16 224 384, medium/16 224, base/16 224 384, large/16 224 384, huge/14 224",
    ),
    Family("vit_{size}_patch{patch}_dinov2", _OQUAB, _DINOV2, "small/14 518, base/14 518, large/14 518"),
    Family("vit_{size}_patch{patch}_dinov2", _OQUAB, _DINOV2 | _GIANT_SWIGLU, "giant/14 518"),
    Family(
        "vit_{size}_patch{patch}_reg4_dinov2",
        _DARCET,
        _REGISTERS | {"num_registers": 4},
        "small/14 518, base/14 518, large/14 518",
    ),
    Family(
        "vit_{size}_patch{patch}_reg4_dinov2",
        _DARCET,
        _REGISTERS | {"num_registers": 4} | _GIANT_SWIGLU,
        "giant/14 518",
    ),
    Family(
        "vit_{size}_patch{patch}_reg1_tipsv2",
        _TIPS,
        _REGISTERS | {"num_registers": 1},
        "base/14 448, large/14 448, so400m/14 448",
    ),
    Family(
        "vit_{size}_patch{patch}_reg1_tipsv2",
        _TIPS,
        _REGISTERS | {"num_registers": 1} | _GIANT_SWIGLU,
        "giant/14 448",
    ),
    Family(
        "vit_{size}_patch{patch}_radio_v3",
        _RANZINGER,
        _RADIO | {"num_registers": 7, "layer_scale": True},
        "base/16 512, large/16 512",
    ),
    Family("vit_{size}_patch{patch}_radio_v3", _RANZINGER, _RADIO | {"num_registers": 7}, "huge/16 512"),
    Family(
        "vit_{size}_patch{patch}_radio_v3",
        _RANZINGER,
        _RADIO | {"num_registers": 7, "dim": 1536, "num_heads": 24},
        "giant/16 512",
    ),
    Family("vit_{size}_patch{patch}_radio_v4", _RANZINGER, _RADIO | {"num_registers": 9}, "huge/16 512, so400m/16 512"),
    Family(
        "vit_intern300m_patch{patch}_{image}",
        "Chen et al. 2024 (InternVL)",
        {"layer_scale": True, "final_norm": "none"},
        "large/14 448",
    ),
    Family(
        "eva_{size}_patch{patch}_{image}",
        "Fang et al. 2022 (EVA): L is timm's plain class",
        _FC_NORM,
        "large/14 196 336",
    ),
    Family(
        "beit3_{size}_patch{patch}_{image}",
        "Wang et al. 2022 (BEiT-3)",
        _FC_NORM | {"norm_eps": 1e-5, "attn_norm": True, "mlp_norm": True},
        "base/16 224, large/16 224, giant/14 224 336",
    ),
    Family(
        "flexivit_{size}",
        "Beyer et al. 2023 (FlexiViT), at one patch size",
        {"num_classes": 1000, "pos_prefix": "none"},
        "small/16 240, base/16 240, large/16 240",
    ),
    Family(
        "vit_{size}_patch{patch}_gap_{image}",
        "Assran et al. 2023 (I-JEPA)",
        _NO_CLASS,
        "huge/14 224, huge/16 448, giant/16 224",
    ),
    Family(
        "vit_{size}_patch{patch}_gap_{image}", _TIMM, {"num_classes": 1000, "num_heads": 16, **_NO_CLASS}, "base/16 224"
    ),
    Family(
        "vit_{size}_patch{patch}_gap_{image}",
        _TIMM,
        _GAP | {"qkv_bias": "none"},
        "medium/16 240 256 384, betwixt/16 256",
    ),
    Family(
        "vit_{size}_patch{patch}_reg4_gap_{image}",
        _TIMM,
        _GAP | {"num_registers": 4, "pos_prefix": "none", "final_norm": "pooled"},
        "little/16 256, medium/16 256, mediumd/16 256 384, betwixt/16 256 384",
    ),
    Family(
        "vit_{size}_patch{patch}_reg4_gap_{image}",
        _TIMM,
        _FC_NORM | {"class_token": False, "num_registers": 4, "pos_prefix": "none"},
        "base/16 256",
    ),
    Family(
        "vit_{size}_patch{patch}_reg1_gap_{image}",
        _TIMM,
        _GAP | {"num_registers": 1, "pos_prefix": "none", "final_norm": "pooled"},
        "wee/16 256, little/16 256, medium/16 256, betwixt/16 256",
    ),
    Family(
        "vit_{size}_patch{patch}_reg4_gap_{image}",
        _TIMM,
        _NO_CLASS | {"num_classes": 1000, "num_registers": 4, "pos_prefix": "all"},
        "so150m/16 256 384",
    ),
    Family(
        "vit_{size}_patch{patch}_reg4_map_{image}",
        _TIMM,
        _SIGLIP | {"num_classes": 1000, "num_registers": 4, "pos_prefix": "all"},
        "so150m/16 256",
    ),
    Family(
        "vit_{size}_patch{patch}_reg1_gap_{image}",
        _TIMM,
        _GAP | {"num_registers": 1, "pos_prefix": "all", "final_norm": "pooled", "qkv_bias": "none"},
        "so150m2/16 256 384 448",
    ),
    Family(
        "vit_{size}_patch{patch}_plus_{image}",
        _TIMM,
        _PLUS | {"num_classes": 1000, "layer_scale": True},
        "base/16 240, base/32 256",
    ),
    Family(
        "vit_{size}_patch{patch}_36x1_{image}",
        "Touvron et al. 2022 (Three things everyone should know about ViTs)",
        {"num_classes": 1000, "layer_scale": True, "depth": 36},
        "small/16 224",
    ),
    Family(
        "vit_{size}_patch{patch}_{image}_miil",
        "Ridnik et al. 2021 (ImageNet-21K pretraining for the masses)",
        {"num_classes": 1000, "qkv_bias": "none"},
        "base/16 224",
    ),
    *(
        Family(
            f"aimv2_{size}_patch{{patch}}_{{image}}",
            "Fini et al. 2024 (AIMv2)",
            _AIM | {"dim": 128 * heads, "num_heads": heads, "mlp_dim": mlp_dim},
            f"{size}/14 224 336 448",
        )
        for size, heads, mlp_dim in (("large", 8, 2816), ("huge", 12, 4096), ("1b", 16, 5632), ("3b", 24, 8192))
    ),
    Family("test_vit", _TIMM, _TEST | {"dim": 64, "depth": 6, "num_heads": 2}, "test/16 160"),
    Family(
        "test_vit2",
        _TIMM,
        _TEST_REGISTER | {"dim": 64, "depth": 8, "num_heads": 2, "final_norm": "pooled"},
        "test/16 160",
    ),
    Family("test_vit4", _TIMM, _TEST_REGISTER | {"norm": "rms", "final_norm": "pooled", "mlp_dim": 288}, "test/16 160"),
)

# 384 is no multiple of 14: timm leaves 6 pixels out, on the right and below. These are the functions of the others, at
# 384; whoever asks for an image size of 378 gets them.
CUT_OFF = {
    "vit_so400m_patch14_siglip_384": "vit_so400m_patch14_siglip_378",
    "vit_so400m_patch14_siglip_gap_384": "vit_so400m_patch14_siglip_gap_378",
}
