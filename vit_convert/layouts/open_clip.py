"""open_clip's own visual tower, and OpenAI's CLIP, whose names it has.

References:
    https://github.com/mlfoundations/open_clip src/open_clip/transformer.py, model.py
    https://github.com/openai/CLIP clip/model.py

Of a whole CLIP the text tower stands aside. What is written is the visual tower alone, under the names that it has in
the whole: `load_state_dict(..., strict=False)` puts it there.
"""

from collections.abc import Collection, Mapping
from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.layouts.base import (
    LEAVES,
    Aside,
    Bare,
    Beside,
    Described,
    Files,
    Json,
    Layout,
    coded,
    layer_rules,
    resizing,
)
from vit_convert.layouts.timm_args import ratio
from vit_convert.preprocess import Preprocess
from vit_convert.processors import differences, unread
from vit_convert.processors import open_clip as processor
from vit_convert.rules import Rule, Spelling
from vit_convert.steps import zero_key_bias, zero_prefix_positions, zero_qkv_bias

LAYER, BLOCK = "visual.transformer.resblocks.{block}", "blocks.{block}"
LAYERS = {
    "visual.ln_pre": "norm_pre",
    f"{LAYER}.ln_1": f"{BLOCK}.norm1",
    f"{LAYER}.attn.out_proj": f"{BLOCK}.attn.proj",
    f"{LAYER}.ln_2": f"{BLOCK}.norm2",
    f"{LAYER}.mlp.c_fc": f"{BLOCK}.mlp.fc1",
    f"{LAYER}.mlp.c_proj": f"{BLOCK}.mlp.fc2",
    "visual.{post}": "{post}",  # one norm, before the pooling or behind it
}
RULES = (
    Rule("visual.class_embedding", "cls_token", "d -> 1 1 d"),
    Rule("visual.positional_embedding", "pos_embed", "n d -> 1 n d"),
    Rule("visual.conv1.weight", "patch_embed.proj.weight"),
    *(Rule(f"{LAYER}.attn.in_proj_{leaf}", f"{BLOCK}.attn.qkv.{leaf}") for leaf in LEAVES),
    *(Rule(f"{LAYER}.ls_{i}.gamma", f"{BLOCK}.ls{i}.gamma") for i in (1, 2)),
    *layer_rules(LAYERS),
    Rule("visual.proj", "head.weight", "i o -> o i"),
)

TEXT = "the text tower"
ASIDES = (
    *(Aside(name, TEXT) for name in ("transformer.", "token_embedding.", "ln_final.", "text.", "text_projection.")),
    *(Aside(name, TEXT) for name in ("positional_embedding", "text_projection", "attn_mask")),
    *(Aside(name, "what compares both towers") for name in ("logit_scale", "logit_bias")),
    *(Aside(name, "sizes") for name in ("input_resolution", "context_length", "vocab_size")),
)
CONFIG_FILE, WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"
LABELS = "labels"  # ours: open_clip reads model_cfg and preprocess_cfg alone

# What the class does, whatever its config says.
CODE: Mapping[str, Any] = {
    "in_channels": 3,
    "class_token": True,
    "dist_token": False,
    "num_registers": 0,
    "pos_embed": "learned",  # sin_cos_2d is a table of the file too
    "pos_prefix": "class",
    "rope": "none",
    "norm": "layer",
    "qk_norm": False,
    "attn_norm": False,
    "patch_norm": False,
    "mlp_norm": False,
    "mlp": "mlp",
    "patch_bias": False,
    "qkv_bias": "all",
    "proj_bias": True,
    "mlp_bias": True,
    "pre_logits": 0,
}
POOLS = {"tok": "class", "avg": "mean"}
# The defaults of open_clip's CLIPVisionCfg.
DEFAULTS: Mapping[str, Any] = {
    "image_size": 224,
    "patch_size": 16,
    "width": 768,
    "layers": 12,
    "head_width": 64,
    "mlp_ratio": 4.0,
    "ls_init_value": None,
    "no_ln_pre": False,
    "pool_type": "tok",
    "final_ln_after_pool": False,
    "act_kwargs": None,
    "norm_kwargs": None,
}
# Field -> the options that it comes from.
OPTIONS = {
    "image_size": ("image_size",),
    "patch_size": ("patch_size",),
    "dim": ("width",),
    "depth": ("layers",),
    "num_heads": ("width", "head_width"),
    "mlp_dim": ("width", "mlp_ratio"),
    "layer_scale": ("ls_init_value",),
    "pre_norm": ("no_ln_pre",),
    "pool": ("pool_type",),
    "final_norm": ("final_ln_after_pool",),
    "norm_eps": ("norm_kwargs",),
}
# What leaves the function of a trained tower alone.
HARMLESS = {"patch_dropout", "output_tokens", "attn_pooler_queries", "attn_pooler_heads", "pos_embed_type"}
HARMLESS |= {"timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path"}


def vision_of(config: Json) -> Json | None:
    """The visual tower's entries, if this is a config of open_clip's."""
    model = config.get("model_cfg")
    vision = model.get("vision_cfg") if isinstance(model, dict) else None
    return vision if isinstance(vision, dict) else None


def is_own(config: Json) -> bool:
    """Whether the tower is open_clip's own Transformer: neither timm's, nor a ResNet."""
    vision = vision_of(config)
    return vision is not None and not vision.get("timm_model_name") and not isinstance(vision.get("layers"), list)


def norm_behind(config: Json) -> bool:
    """Whether the last norm stands behind an average."""
    vision = vision_of(config) or {}
    return bool(vision.get("final_ln_after_pool")) and vision.get("pool_type") == "avg"


def read(config: Json, beside: Beside) -> Described:
    """open_clip_config.json of one of open_clip's own towers.

    Raises:
        CheckpointError: options that ViTConfig has no field for; all are named.
    """
    model = config["model_cfg"]
    vision = {name: value for name, value in model["vision_cfg"].items() if value is not None}
    said = {**DEFAULTS, **vision}
    fields = {**CODE, "pos_resize": "bicubic_antialias"} | _fields(said)
    fields |= {"act": _act(bool(model.get("quick_gelu")), said["act_kwargs"] or {}), "num_classes": model["embed_dim"]}
    _check(said)
    sources = dict.fromkeys((*CODE, "pos_resize"), "open_clip's code")
    sources |= {
        ours: "open_clip's default" for ours, theirs in OPTIONS.items() if not any(name in vision for name in theirs)
    }
    sources |= {} if "quick_gelu" in model or said["act_kwargs"] else {"act": "open_clip's default"}
    preprocess, strange = prepared(config, _pair(said["image_size"]))
    return Described(fields, preprocess, labels_of(config), sources=sources, unread=strange)


def prepared(config: Json, image_hw: tuple[int, int]) -> tuple[Preprocess | None, str]:
    """The preprocessing, or a note on what of it is not read."""
    said = config.get("preprocess_cfg") or {}
    preprocess = processor.read(said, image_hw)
    return preprocess, unread(f"{CONFIG_FILE}'s preprocess_cfg", said, preprocess)


def labels_of(config: Json) -> tuple[str, ...] | None:
    labels = config.get(LABELS)
    return tuple(map(str, labels)) if isinstance(labels, list) else None


def _fields(said: Json) -> Json:
    return {
        "image_size": _pair(said["image_size"]),
        "patch_size": _pair(said["patch_size"]),
        "dim": said["width"],
        "depth": said["layers"],
        "num_heads": said["width"] // said["head_width"],
        "mlp_dim": int(said["width"] * said["mlp_ratio"]),
        "layer_scale": said["ls_init_value"] is not None,
        "pre_norm": not said["no_ln_pre"],
        "pool": POOLS.get(said["pool_type"], said["pool_type"]),
        "final_norm": "pooled" if said["final_ln_after_pool"] else "tokens",
        "norm_eps": (said["norm_kwargs"] or {}).get("eps", 1e-5),
        "head_bias": False,
    }


def _check(said: Json) -> None:
    odd = {name: value for name, value in said.items() if name not in {*DEFAULTS, *HARMLESS} and value}
    odd |= {} if said["pool_type"] in POOLS else {"pool_type": said["pool_type"]}
    odd |= {} if set(said["norm_kwargs"] or {}) <= {"eps"} else {"norm_kwargs": said["norm_kwargs"]}
    if odd:
        raise CheckpointError(f"{CONFIG_FILE}: these options of vision_cfg are not read: {odd}")


def _act(quick: bool, options: Json) -> str:
    if quick:
        return "quick_gelu"
    return {"none": "gelu", "tanh": "gelu_tanh"}[options.get("approximate", "none")]


def _pair(size: int | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def write(config: ViTConfig, preprocess: Preprocess | None, labels: tuple[str, ...] | None) -> Files:
    """open_clip_config.json, of the visual tower alone."""
    vision = {
        "image_size": _one(config.image_hw),
        "patch_size": _one(config.patch_hw),
        "width": config.dim,
        "layers": config.depth,
        "head_width": config.head_dim,
        "mlp_ratio": ratio(config.dim, config.mlp_dim),
        "ls_init_value": 1e-5 if config.layer_scale else None,  # only whether there is one matters to trained weights
        "no_ln_pre": not config.pre_norm,
        "pool_type": {ours: theirs for theirs, ours in POOLS.items()}[config.pool],
        "final_ln_after_pool": config.final_norm == "pooled",
        "norm_kwargs": {"eps": config.norm_eps},
        "act_kwargs": {"approximate": "tanh"} if config.act == "gelu_tanh" else None,
    }
    vision = {name: value for name, value in vision.items() if value is not None}
    return tower_files(config, {"vision_cfg": vision, "quick_gelu": config.act == "quick_gelu"}, preprocess, labels)


def tower_files(config: ViTConfig, model: Json, preprocess: Preprocess | None, labels: tuple[str, ...] | None) -> Files:
    """The config file, and what it can't say."""
    said = processor.write(preprocess, config.image_hw) if preprocess else None
    entries: Json = {"model_cfg": {"embed_dim": config.num_classes, **model}} | (
        {"preprocess_cfg": said} if said else {}
    )
    notes = ["the visual tower alone: a whole model takes it by load_state_dict(..., strict=False)"]
    if preprocess:
        theirs = processor.read(said, config.image_hw) if said else None
        notes += differences("open_clip's preprocess_cfg", preprocess, theirs)
    else:
        notes.append("how images are prepared is unknown: open_clip takes OpenAI's statistics")
    if labels:
        entries[LABELS] = list(labels)
    notes += resizing("open_clip", "bicubic_antialias", config)
    return Files({CONFIG_FILE: entries}, tuple(notes), {"format": "pt"})


def _one(size: tuple[int, int]) -> int | list[int]:
    return size[0] if size[0] == size[1] else list(size)


def recognise(names: Collection[str]) -> bool:
    return "visual.conv1.weight" in names and "visual.transformer.resblocks.0.attn.in_proj_weight" in names


def bare(file: Bare) -> Described:
    """What the code fixes: heads, activation and eps are options of the config file alone."""
    described = coded("open_clip", {**CODE, "pos_resize": "bicubic_antialias", "head_bias": False})
    hint = f"{CONFIG_FILE} beside it would tell; OpenAI's models have the presets *_clip_quickgelu_*"
    return Described(described.fields, sources=described.sources, hint=hint)


def conflicts(config: ViTConfig) -> list[str]:
    """The projection is what a tower of open_clip's ends with, and it has no bias."""
    if not config.num_classes:
        return ["num_classes 0: a visual tower ends with a projection"]
    return ["head_bias True: only False"] * config.head_bias


def tower(name: str, summary: str, behind: bool) -> Layout:
    """The layout with the last norm before the pooling, or behind it: their names are the same."""
    post: Mapping[str, Spelling] = {"post": (("ln_post", "fc_norm" if behind else "norm"),)}
    return Layout(
        name=name,
        summary=summary,
        rules=RULES,
        recognise=lambda names: post if recognise(names) else None,
        spell=lambda config: post,
        owns=lambda config: is_own(config) and norm_behind(config) is behind,
        read=read,
        write=write,
        limits={name: (value,) for name, value in CODE.items()}
        | {"pool": ("mean",) if behind else ("class", "mean"), "final_norm": ("pooled" if behind else "tokens",)}
        | {"act": ("gelu", "gelu_tanh", "quick_gelu")},
        conflicts=conflicts,
        bare=bare,
        asides=ASIDES,
        adapts=(zero_key_bias, zero_qkv_bias, zero_prefix_positions),
        config_file=CONFIG_FILE,
        weights_file=WEIGHTS_FILE,
    )


OPEN_CLIP = (
    tower("open_clip:vit", "the visual tower of a CLIP of open_clip or OpenAI", behind=False),
    tower(
        "open_clip:clipa",
        "open_clip's visual tower with its norm behind the pooling, as CLIPA has it",
        behind=True,
    ),
)
