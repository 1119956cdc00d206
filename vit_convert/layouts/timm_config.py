"""timm's config.json, whichever of its classes it is for.

References:
    https://github.com/huggingface/pytorch-image-models timm/models/_hub.py, _factory.py

timm keeps part of the maths in code, by `architecture`. So does what is written here: an architecture whose
code has the right eps and MLP, and every other option in `model_args`, which timm passes to it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.labels import by_index
from vit_convert.layouts.base import Described, Files, Json, resizing
from vit_convert.preprocess import Preprocess
from vit_convert.presets import Preset
from vit_convert.presets.timm_vit import CUT_OFF
from vit_convert.processors import differences, unread
from vit_convert.processors import timm as processor

POOLS = {"token": "class", "avg": "mean", "map": "map"}
WRITTEN_POOLS = {ours: theirs for theirs, ours in POOLS.items()} | {"class_dist": "token"}
# Options that leave the function of a trained model alone.
HARMLESS = {"weight_init", "fix_init", "dynamic_img_size", "strict_img_size", "drop_rate", "pos_drop_rate"}
HARMLESS |= {"patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate", "features_only", "pretrained"}

UNPREPARED = "how images are prepared is unknown: timm takes ImageNet's statistics and a crop of 0.875"

# A model_arg -> the ViTConfig fields that it means, from its value and the fields so far: None where it leaves a field
# to the tensors. A KeyError: not read.
Reader = Callable[[Any, Mapping[str, Any]], Json]


def write(
    config: ViTConfig, name: str, args: Json, preprocess: Preprocess | None, labels: tuple[str, ...] | None
) -> Files:
    """The config.json with which `timm.create_model("local-dir:DIR", pretrained=True)` makes this model."""
    said = processor.write(preprocess, config.image_hw) if preprocess else None
    notes = [UNPREPARED]
    if preprocess:
        notes = differences("timm's pretrained_cfg", preprocess, processor.read(said or {}))
    pool = WRITTEN_POOLS[config.pool]
    entries = {
        "architecture": name,
        "num_classes": config.num_classes,
        "num_features": config.dim,
        "global_pool": pool,
        "model_args": args | {"global_pool": pool},
        "pretrained_cfg": {
            "input_size": [config.in_channels, *config.image_hw],
            "fixed_input_size": True,
            "num_classes": config.num_classes,
            "first_conv": "patch_embed.proj",
            "classifier": ["head", "head_dist"] if config.pool == "class_dist" else "head",
            **(said or {}),
        },
    }
    if labels:
        entries["label_names"] = list(labels)
    notes += resizing("timm", "bicubic_antialias", config)
    return Files({"config.json": entries}, tuple(notes), {"format": "pt"})


def architecture(config: ViTConfig, presets: Mapping[str, Preset]) -> str | None:
    """The preset that this config is, whatever its head and, at worst, its image size."""
    free = {name: getattr(config, name) for name in ("num_classes", "pos_resize")}
    for changes in (free, free | {"image_size": config.image_size}):
        for name, preset in presets.items():
            if _fits(preset.config, config, changes):
                return name
    return None


def _fits(preset: ViTConfig, config: ViTConfig, changes: Mapping[str, Any]) -> bool:
    same = all(getattr(preset, name) == getattr(config, name) for name in ("dim", "depth", "patch_size"))
    same = same and (preset.image_size == config.image_size or "image_size" in changes)
    return same and preset.replace(**changes) == config


def code_of(name: str, presets: Mapping[str, Preset]) -> Json | None:
    """The fields that an architecture's code fixes; None where it isn't one of these presets."""
    if name in CUT_OFF and CUT_OFF[name] in presets:
        return presets[CUT_OFF[name]].config.to_dict() | {"image_size": (384, 384)}
    return presets[name].config.to_dict() if name in presets else None


def read(config: Json, presets: Mapping[str, Preset], read_args: Callable[[Json, Json], Json]) -> Described:
    """A timm config.json: the architecture's code, and what model_args change in it.

    Raises:
        CheckpointError: options that change the function in a way that ViTConfig has no field for.
    """
    name, args = str(config["architecture"]), dict(config.get("model_args") or {})
    # timm's older files have its entries beside the architecture.
    pretrained = config.get("pretrained_cfg", config) or {}
    labels, lost = _labels(config.get("label_names") or pretrained.get("label_names") or pretrained.get("labels"))
    preprocess = processor.read(pretrained | _built_for(pretrained, args))
    prepares = {name: pretrained[name] for name in processor.ENTRIES if pretrained.get(name) is not None}
    strange = unread("config.json's pretrained_cfg", prepares, preprocess)
    code = code_of(name, presets)
    if code is None:
        hint = f"architecture {name!r} of config.json is not a preset"
        return Described(_input_size(pretrained, args), preprocess, labels, hint, unread=strange, said=lost)
    said = _left_to(pretrained) | _input_size(pretrained, args)
    said |= read_args({name: value for name, value in args.items() if name not in HARMLESS}, code | said)
    said |= {"num_classes": config["num_classes"]} if "num_classes" in config else {}
    fields = {name: value for name, value in (code | said).items() if value is not None}
    _check_pool(name, config.get("global_pool"), fields["pool"])
    sources = dict.fromkeys(set(code) - set(said), f"timm's code for {name}")
    return Described(fields, preprocess, labels, sources=sources, unread=strange, said=lost)


def _labels(names: Any) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """label_names by index, and a note where they aren't: timm also takes an object with gaps between its numbers."""
    labels = by_index(names) if names else None
    if labels or not names:
        return labels, ()
    return None, ("left out label_names of config.json: expected a list, or an object with the keys 0 to n - 1",)


def _check_pool(name: str, pool: str | None, does: str) -> None:
    if pool is not None and POOLS.get(pool, pool) != does and (pool, does) != ("token", "class_dist"):
        raise CheckpointError(
            f"config.json contradicts itself: global_pool {pool!r}, but {name} with its model_args pools {does!r}"
        )


def read_options(args: Json, code: Mapping[str, Any], readers: Mapping[str, Reader]) -> Json:
    """The fields that model_args change in an architecture's own, option by option in the order of the readers.

    Raises:
        CheckpointError: options or values that ViTConfig has no field for; all are named.
    """
    fields: Json = {}
    refused = {name: value for name, value in args.items() if name not in readers}
    for name in [name for name in readers if name in args]:
        try:
            fields |= readers[name](args[name], {**code, **fields})
        except (KeyError, TypeError, ValueError):
            refused[name] = args[name]
    if refused:
        raise CheckpointError(f"config.json: these model_args are not read: {refused}")
    return fields


def same(field: str) -> Reader:
    """The reader of an option whose values are those of a field."""
    return lambda value, fields: {field: tuple(value) if isinstance(value, list) else value}


def only(value: Any) -> Reader:
    """The reader of an option that is read with one value only, which changes nothing."""
    return lambda given, fields: {value: {}}[given]


def _left_to(pretrained: Json) -> Json:
    """What timm takes from pretrained_cfg where neither model_args nor the entries above it say it.

    Not the pooling: its PretrainedCfg has no such entry, and timm loads no file with one.
    """
    classes, size = pretrained.get("num_classes"), pretrained.get("input_size")
    said = {} if classes is None or classes < 0 else {"num_classes": classes}
    return said | ({"in_channels": size[0]} if isinstance(size, list) and len(size) == 3 else {})


def _built_for(pretrained: Json, args: Json) -> Json:
    """The input_size that images are prepared for: model_args go before an entry that older files left as it was."""
    size = pretrained.get("input_size")
    if not isinstance(size, list) or len(size) != 3:
        return {}
    channels, sides = args.get("in_chans"), args.get("img_size") if _is_fixed(pretrained, args) else None
    channels = size[0] if channels is None else channels
    sides = size[1:] if sides is None else sides if isinstance(sides, list) else [sides, sides]
    return {"input_size": [channels, *sides]}


def _is_fixed(pretrained: Json, args: Json) -> bool:
    free = args.get("dynamic_img_size") or args.get("strict_img_size") is False
    return bool(pretrained.get("fixed_input_size")) and not free


def _input_size(pretrained: Json, args: Json) -> Json:
    """The image size that is fixed: a model of any size is built for img_size or its architecture's own."""
    size = pretrained.get("input_size")
    if not _is_fixed(pretrained, args) or not isinstance(size, list) or len(size) != 3:
        return {}
    return {"image_size": tuple(size[1:])}
