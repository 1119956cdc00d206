"""timm's VisionTransformer and VisionTransformerDistilled, plain options.

References:
    https://github.com/huggingface/pytorch-image-models timm/models/vision_transformer.py, deit.py, _hub.py

timm keeps part of the maths in code, by `architecture`. So does what is written here: an architecture whose
code has the right eps and MLP, and every other option in `model_args`, which timm passes to it.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.layouts.base import Described, Files, Json, Layout, outside
from vit_convert.layouts.names import HUB
from vit_convert.layouts.timm_args import POOLS, read_args, write_args
from vit_convert.preprocess import Preprocess
from vit_convert.presets import PRESETS
from vit_convert.processors import differences
from vit_convert.processors import timm as processor
from vit_convert.rules import Rule, Spelling

_PACKED = ("attn_pool.k.", "attn_pool.v.")
RULES = (
    *(Rule(name, name) for name in HUB if not name.startswith(_PACKED)),
    Rule("attn_pool.kv.weight", "attn_pool.{kv}.weight", "(kv o) i -> kv o i"),
    Rule("attn_pool.kv.bias", "attn_pool.{kv}.bias", "(kv o) -> kv o"),
)
HOLES: Mapping[str, Spelling] = {"kv": ("k", "v")}

# (norm, eps, mlp) -> an architecture whose code says so; model_args can say the rest.
CODE = {
    ("layer", 1e-6, "mlp"): "vit_base_patch16_224",
    ("layer", 1e-5, "mlp"): "vit_base_patch16_clip_224",
    ("layer", 1e-6, "swiglu"): "vit_giant_patch14_dinov2",
    ("rms", 1e-6, "mlp"): "vit_base_patch16_224",
    ("rms", 1e-6, "swiglu"): "vit_giant_patch14_dinov2",
}
DISTILLED = "deit_base_distilled_patch16_224"


def conflicts(config: ViTConfig) -> list[str]:
    """What timm can't express, beyond single fields."""
    allowed: dict[str, tuple[Any, ...]] = {
        "patch_bias": (not config.pre_norm,),
        "mlp_bias": (config.proj_bias,),
        "dist_token": (config.pool == "class_dist",),
    }
    if config.pool == "class_dist":
        allowed |= {"pos_embed": ("learned",), "pos_prefix": ("class",), "num_registers": (0,)}
        allowed |= {"norm_eps": (1e-6,), "mlp": ("mlp",)}
    elif config.num_registers and config.pos_embed == "learned":
        allowed["pos_prefix"] = ("none", "all")
    if config.pool == "map":
        allowed["mlp"] = ("mlp",)
    why = {"patch_bias": "pre_norm", "mlp_bias": "proj_bias", "pos_prefix": "num_registers"}
    if config.pool == "class_dist":
        del why["pos_prefix"]
    problems = []
    for name, values in allowed.items():
        other = why.get(name, "pool")
        problems += outside(config, name, values, f" with {other} {getattr(config, other)!r}")
    if (config.norm, config.norm_eps, config.mlp) not in CODE:
        known = "; ".join(f"{norm} {eps:g} {mlp}" for norm, eps, mlp in CODE)
        problems.append(
            f"norm {config.norm!r}, norm_eps {config.norm_eps:g} and mlp {config.mlp!r} together: "
            f"timm has them in its code, for norm, eps, mlp: {known}"
        )
    return problems


def write(config: ViTConfig, preprocess: Preprocess | None, labels: tuple[str, ...] | None) -> Files:
    """The config.json with which `timm.create_model("local-dir:DIR", pretrained=True)` makes this model."""
    pool = {ours: theirs for theirs, ours in POOLS.items()} | {"class_dist": "token"}
    said = processor.write(preprocess, config.image_hw) if preprocess else None
    notes = differences("timm's pretrained_cfg", preprocess, processor.read(said or {})) if preprocess else []
    size = [config.in_channels, *config.image_hw]
    args = write_args(config) | {"global_pool": pool[config.pool]}
    entries = {
        "architecture": architecture(config),
        "num_classes": config.num_classes,
        "num_features": config.dim,
        "global_pool": pool[config.pool],
        "model_args": args,
        "pretrained_cfg": {
            "input_size": size,
            "fixed_input_size": True,
            "num_classes": config.num_classes,
            "first_conv": "patch_embed.proj",
            "classifier": ["head", "head_dist"] if config.pool == "class_dist" else "head",
            **(said or {}),
        },
    }
    if labels:
        entries["label_names"] = list(labels)
    if config.pos_embed == "learned" and config.pos_resize != "bicubic_antialias":
        notes.append(f"timm resizes positions by bicubic_antialias, not by {config.pos_resize}: {_SAME_SIZE}")
    return Files({"config.json": entries}, tuple(notes), {"format": "pt"})


_SAME_SIZE = "the same function at this image size, another at others"


def architecture(config: ViTConfig) -> str:
    """The preset that this config is, whatever its head and image size, or else one with the same code."""
    changes = {name: getattr(config, name) for name in ("num_classes", "image_size", "pos_resize")}
    for name, preset in PRESETS.items():
        if preset.origin != "timm":
            continue
        same_size = (preset.config.dim, preset.config.depth) == (config.dim, config.depth)
        if same_size and preset.config.patch_size == config.patch_size and preset.config.replace(**changes) == config:
            return name
    return DISTILLED if config.pool == "class_dist" else CODE[config.norm, config.norm_eps, config.mlp]


def read(config: Json, beside: Callable[[str], Json | None]) -> Described:
    """A timm config.json: the architecture's code, and what model_args change in it.

    Raises:
        CheckpointError: options that change the function in a way that ViTConfig has no field for.
    """
    name, args = str(config["architecture"]), dict(config.get("model_args") or {})
    pretrained = config.get("pretrained_cfg") or {}
    labels = config.get("label_names") or pretrained.get("label_names")
    preprocess = processor.read(pretrained)
    labels = tuple(map(str, labels)) if isinstance(labels, list) else None
    if name not in PRESETS:
        hint = f"architecture {name!r} of config.json is not a preset"
        return Described(_input_size(pretrained), preprocess, labels, hint)
    code = PRESETS[name].config.to_dict()
    said = _input_size(pretrained)
    said |= read_args(args, code | said)
    said |= {"num_classes": config["num_classes"]} if "num_classes" in config else {}
    fields: dict[str, Any] = code | said
    if "embed_dim" in args and "mlp_ratio" not in args:
        del fields["mlp_dim"]  # the architecture's ratio applies; the shapes tell what came of it
    pool, does = config.get("global_pool"), fields["pool"]
    if pool is not None and POOLS.get(pool, pool) != does and (pool, does) != ("token", "class_dist"):
        raise CheckpointError(
            f"config.json contradicts itself: global_pool {pool!r}, but {name} with its model_args pools {does!r}"
        )
    return Described(
        fields, preprocess, labels, sources=dict.fromkeys(set(code) - set(said), f"timm's code for {name}")
    )


def _input_size(pretrained: Json) -> Json:
    size = pretrained.get("input_size")
    if not pretrained.get("fixed_input_size", True) or not isinstance(size, list) or len(size) != 3:
        return {}
    return {"image_size": tuple(size[1:])}


def recognise(names: Collection[str]) -> Mapping[str, Spelling] | None:
    """timm's names are the hub's: only a packed attention pool tells them apart."""
    plain = "patch_embed.proj.weight" in names and "blocks.0.norm1.weight" in names
    return HOLES if plain and "attn_pool.k.weight" not in names else None


TIMM = Layout(
    name="timm:vit",
    summary='VisionTransformer: timm.create_model("local-dir:DIR", pretrained=True)',
    rules=RULES,
    recognise=recognise,
    spell=lambda config: HOLES,
    owns=lambda config: "architecture" in config,
    read=read,
    write=write,
    limits={
        "pos_embed": ("learned", "none"),
        "qkv_bias": ("all", "none"),
        "head_bias": (True,),
        "pool": ("class", "mean", "map", "class_dist"),
        "pre_logits": (0,),
        "rope": ("none",),
    },
    conflicts=conflicts,
)
