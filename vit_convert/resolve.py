"""Where each field of a checkpoint's config comes from: the user, the config beside it, names and shapes."""

from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vit_convert.config import ViTConfig
from vit_convert.describe import describe, pos_prefix
from vit_convert.errors import CheckpointError
from vit_convert.hub import hub_shapes
from vit_convert.layouts.base import Described
from vit_convert.presets import PRESETS, get_preset
from vit_convert.rules import Shape

FIELDS = tuple(field.name for field in dataclass_fields(ViTConfig))
# Every other field is read from names and shapes, or follows from these.
NEEDED = ("image_size", "patch_size", "dim", "depth", "num_heads", "mlp_dim")
NEEDED += ("pos_embed", "pos_resize", "rope", "norm_eps", "act", "pool")


def resolve(
    path: str,
    shapes: Mapping[str, Shape],
    described: Described,
    preset: str | None,
    overrides: Mapping[str, Any],
) -> tuple[ViTConfig, dict[str, str]]:
    """The config, and for each field where it came from.

    Args:
        shapes: hub names and shapes of the file, as far as its layout's table understands them.

    Raises:
        CheckpointError: fields stay unknown (all are named, with what would answer), or contradict each other.
    """
    unknown = sorted(set(overrides) - set(FIELDS))
    if unknown:
        raise CheckpointError(f"unknown config fields {unknown}; the fields are {', '.join(FIELDS)}")
    named = get_preset(preset).config.to_dict() if preset else {}
    named.pop("num_classes", None)  # a head is often replaced; the file tells
    layers = {
        "names and shapes": describe(shapes),
        "config.json": described.fields,
        f"preset {preset}": named,
        "given": overrides,
    }
    values = {name: value for layer in layers.values() for name, value in layer.items()}
    sources = {name: source for source, layer in layers.items() for name in layer}
    values |= _prefix(path, values, sources, shapes)
    missing = [name for name in NEEDED if name not in values]
    if values.get("pos_embed", "learned") != "learned" and "pos_resize" in missing:
        missing.remove("pos_resize")  # nothing to resize
    if missing:
        raise CheckpointError(_question(path, missing, shapes, values, described.hint))
    try:
        config = ViTConfig.from_dict(values)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    return config, {name: sources.get(name, "default") for name in FIELDS}


def parse_override(text: str) -> tuple[str, Any]:
    """`field=value` of a command line, by the field's type: numbers, true, none, 224x192.

    Raises:
        CheckpointError: no such field, or a value that is none of it.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or name not in FIELDS:
        raise CheckpointError(f"--set needs field=value, got {text!r}; the fields are {', '.join(FIELDS)}")
    hint = get_type_hints(ViTConfig)[name]
    kinds = (hint, *get_args(hint))
    try:
        if get_origin(hint) is Literal:
            return name, value
        if bool in kinds:
            return name, {"true": True, "false": False}[value.lower()]
        if type(None) in kinds and value.lower() == "none":
            return name, None
        if name in ("image_size", "patch_size") and ("x" in value or "," in value):
            return name, tuple(int(n) for n in value.replace("x", ",").split(","))
        return name, float(value) if float in kinds else int(value)
    except (KeyError, ValueError):
        raise CheckpointError(f"--set {name}: {value!r} is not a value of it ({describe_values(name)})") from None


def describe_values(name: str) -> str:
    """What a field may be, for a message: `gelu|gelu_tanh|quick_gelu|silu`."""
    hint = get_type_hints(ViTConfig)[name]
    if get_origin(hint) is Literal:
        return "|".join(get_args(hint))
    if name in ("image_size", "patch_size"):
        return "HEIGHTxWIDTH"
    kinds = {bool: "true|false", int: "INTEGER", float: "NUMBER"}
    return "|".join(text for kind, text in kinds.items() if kind in (hint, *get_args(hint)))


def _prefix(
    path: str, values: Mapping[str, Any], sources: dict[str, str], shapes: Mapping[str, Shape]
) -> dict[str, Any]:
    """`pos_prefix`, which the number of rows tells once the image size is known."""
    if "pos_prefix" in values or not {"image_size", "patch_size"} <= set(values) or "pos_embed" not in shapes:
        return {}
    sizes = {name: values[name] for name in ("image_size", "patch_size")}
    sizes = {name: (size, size) if isinstance(size, int) else tuple(size) for name, size in sizes.items()}
    sources["pos_prefix"] = "names and shapes"
    try:
        return {"pos_prefix": pos_prefix({**values, **sizes}, shapes["pos_embed"][1])}
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _question(path: str, missing: list[str], shapes: Mapping[str, Shape], values: Mapping[str, Any], hint: str) -> str:
    fitting = [name for name in PRESETS if _fits(name, shapes, values)]
    presets = f"--preset NAME ({', '.join(fitting)} would fit)" if fitting else "--preset NAME (none of them fits)"
    sets = " ".join(f"--set {name}={describe_values(name)}" for name in missing)
    why = f" ({hint})" if hint else ""
    return (
        f"{path}: nothing tells {', '.join(missing)}{why}. Different models share these names and shapes. "
        f"Say which it is, by {presets}, or by {sets}"
    )


def _fits(name: str, shapes: Mapping[str, Shape], values: Mapping[str, Any]) -> bool:
    """Whether the file has exactly the tensors of this preset, whatever its number of classes."""
    preset = PRESETS[name].config
    if (preset.dim, preset.depth) != (values.get("dim"), values.get("depth")):
        return False
    return hub_shapes(preset.replace(num_classes=values["num_classes"])) == dict(shapes)
