"""Where each field of a checkpoint's config comes from: the user, the config beside it, names and shapes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields as dataclass_fields
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from vit_convert.config import REQUIRED, ViTConfig, checked, hints
from vit_convert.describe import describe, pos_prefix
from vit_convert.errors import CheckpointError, some
from vit_convert.hub import hub_shapes
from vit_convert.layouts.base import Described
from vit_convert.presets import PRESETS, Preset, get_preset
from vit_convert.rules import Shape

DESCRIBED = "config.json"  # where what is described came from, unless it says otherwise itself
FIELDS = tuple(field.name for field in dataclass_fields(ViTConfig))
# Every other field is read from names and shapes, or follows from these.
NEEDED = (*REQUIRED, "pos_embed", "pos_resize", "rope", "norm_eps", "act", "pool")
NEEDED_BY_ROPE = {"none": (), "dinov3": ("rope_theta", "rope_round_periods"), "eva02": ("rope_theta", "rope_ref_grid")}


def resolve(
    path: str,
    shapes: Mapping[str, Shape],
    described: Described,
    preset: str | None,
    overrides: Mapping[str, Any],
    unplaced: Sequence[str] = (),
) -> tuple[ViTConfig, dict[str, str]]:
    """The config, and for each field where it came from.

    Args:
        shapes: hub names and shapes of the file, as far as its layout's table understands them.
        unplaced: the file's names that it doesn't understand.

    Raises:
        CheckpointError: fields stay unknown (all are named, with what would answer), or contradict each other.
    """
    unknown = sorted(set(overrides) - set(FIELDS))
    if unknown:
        raise CheckpointError(_unknown_fields(unknown))
    named = get_preset(preset).config.to_dict() if preset else {}
    for name in ("num_classes", "head_bias"):
        named.pop(name, None)  # a head is often replaced; the file tells
    layers = {
        "names and shapes": describe(shapes),
        DESCRIBED: described.fields,
        f"preset {preset}": named,
        "given": overrides,
    }
    values = _checked(path, {name: value for layer in layers.values() for name, value in layer.items()})
    sources = {name: source for source, layer in layers.items() for name in layer}
    sources |= {name: source for name, source in described.sources.items() if sources.get(name) == DESCRIBED}
    values |= _prefix(path, values, sources, shapes)
    missing = [name for name in _needed(values) if name not in values]
    if values.get("pos_embed", "learned") != "learned" and "pos_resize" in missing:
        missing.remove("pos_resize")  # nothing to resize
    if missing:
        raise CheckpointError(_question(path, missing, shapes, values, described.hint, unplaced))
    try:
        config = ViTConfig.from_dict(values)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    behind = "fc_norm.weight" in shapes and "norm.weight" not in shapes
    if behind and config.pool in ("class", "class_dist"):
        raise CheckpointError(
            f"{path}: it has fc_norm instead of norm, which is not read with pool={config.pool!r} (timm: fc_norm=True, "
            "global_pool='token'). If it averages the patches, say so: --set pool=mean --set final_norm=pooled"
        )
    return config, {name: sources.get(name, "default") for name in FIELDS}


def _needed(values: Mapping[str, Any]) -> tuple[str, ...]:
    return NEEDED + NEEDED_BY_ROPE.get(values.get("rope", "none"), ())


def parse_overrides(texts: Iterable[str]) -> dict[str, Any]:
    """Each `field=value` of a command line, by the field's type: numbers, true, none, 224x192.

    Raises:
        CheckpointError: no such field, a value that is none of it, or a field with two.
    """
    found: dict[str, Any] = {}
    for name, value in map(_parse_override, texts):
        if repr(found.setdefault(name, value)) != repr(value):  # nan is no other value than nan
            raise CheckpointError(f"--set {name} is given two values, {found[name]} and {value}; leave one out")
    return found


def _parse_override(text: str) -> tuple[str, Any]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise CheckpointError(f"--set needs field=value, got {text!r}; the fields are {', '.join(FIELDS)}")
    if name not in FIELDS:
        raise CheckpointError(f"--set {text}: {_unknown_fields([name])}")
    return name, parse_value(name, value, f"--set {name}")


def in_words_of_a_run(said: str) -> str:
    """What is wrong with a run's --init, of which --init-preset and --init-set, which takes a list, are what --preset
    and --set are to `vit-convert`."""
    said = re.sub(r"--set \S+(?: --set \S+)*", lambda at: "--init-set " + at[0].replace("--set ", ""), said)
    said = said.replace("--preset", "--init-preset")
    return said if said.startswith("--init-") else f"--init {said}"


def parse_value(name: str, value: str, said: str) -> Any:
    """A field's value as a command line has it; `said`: what the user typed it behind.

    Raises:
        CheckpointError: it is no value of this field.
    """
    hint = hints()[name]
    kinds = (hint, *get_args(hint))
    try:
        if get_origin(hint) is Literal:
            return value
        if bool in kinds:
            return {"true": True, "false": False}[value.lower()]
        if type(None) in kinds and value.lower() == "none":
            return None
        if name in ("image_size", "patch_size") and ("x" in value or "," in value):
            return tuple(int(n) for n in value.replace("x", ",").split(","))
        return float(value) if float in kinds else int(value)
    except (KeyError, ValueError):
        raise CheckpointError(f"{said}: {value!r} is not a value of it ({describe_values(name)})") from None


def _unknown_fields(names: Sequence[str]) -> str:
    close = list(dict.fromkeys(match for name in names for match in get_close_matches(name, FIELDS, n=1)))
    meant = f" (did you mean {', '.join(close)}?)" if close else ""
    return f"unknown config field {', '.join(names)}{meant}; the fields are {', '.join(FIELDS)}"


def describe_values(name: str) -> str:
    """What a field may be, for a message: `gelu|gelu_tanh|quick_gelu|silu`."""
    hint = hints()[name]
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
    sources["pos_prefix"] = "names and shapes"
    try:
        return {"pos_prefix": pos_prefix(values, shapes["pos_embed"])}
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _checked(path: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Each value by its own type, so that what follows may compute with them."""
    right, wrong = {}, []
    for name, value in values.items():
        try:
            right[name] = checked(name, value)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise CheckpointError(f"{path}: {'; '.join(wrong)}")
    return right


def _question(
    path: str,
    missing: list[str],
    shapes: Mapping[str, Shape],
    values: Mapping[str, Any],
    hint: str,
    unplaced: Sequence[str],
) -> str:
    fitting = {name: preset for name, preset in PRESETS.items() if _fits(name, shapes, values)}
    presets = "--preset NAME (of those below)" if fitting else "--preset NAME (none of them fits)"
    sets = " ".join(f"--set {name}={describe_values(name)}" for name in missing)
    why = f" ({hint})" if hint else ""
    odd = f"\n  {len(unplaced)} tensors of it have no place: {', '.join(unplaced[:10])}" if unplaced else ""
    return (
        f"{path}: nothing tells {', '.join(missing)}{why}. Different models share these names and shapes. "
        f"Say which it is, by {presets}, or by {sets}{odd}{_functions(fitting, values)}"
    )


def _functions(fitting: Mapping[str, Preset], values: Mapping[str, Any]) -> str:
    """The presets that would fit, a line for each function, with what it differs in from the others."""
    functions: dict[ViTConfig, list[str]] = {}
    for name, preset in fitting.items():
        functions.setdefault(preset.config.replace(num_classes=values["num_classes"]), []).append(name)
    differing = [name for name in FIELDS if len({getattr(config, name) for config in functions}) > 1]
    lines = []
    for config, names in functions.items():
        said = ", ".join(f"{name} {getattr(config, name)}" for name in differing)
        lines.append(", ".join(names) + (f": {said}" if said else ""))
    return "\n  presets that fit:\n    " + some(lines) if lines else ""


def _fits(name: str, shapes: Mapping[str, Shape], values: Mapping[str, Any]) -> bool:
    """Whether the file has exactly the tensors of this preset, whatever its number of classes."""
    preset = PRESETS[name].config
    if (preset.dim, preset.depth) != (values.get("dim"), values.get("depth")):
        return False
    return hub_shapes(preset.replace(num_classes=values["num_classes"])) == dict(shapes)
