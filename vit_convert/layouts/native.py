"""native: hub names, torch layout. flax: Flax paths, Flax layout. One config.json for both."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError, some
from vit_convert.layouts.base import Described, Files, Json, Layout
from vit_convert.layouts.names import CONV, HUB, LINEARS, NORMS
from vit_convert.preprocess import Preprocess
from vit_convert.rules import Rule, Shape, Spelling

FORMAT, VERSION = "vit-parity", 1

NATIVE_RULES = tuple(Rule(name, name) for name in HUB)
FLAX_RULES = (
    Rule(f"{CONV}.kernel", f"{CONV}.weight", "h w i o -> o i h w"),
    *(Rule(f"{layer}.kernel", f"{layer}.weight", "i o -> o i") for layer in LINEARS),
    *(Rule(f"{layer}.scale", f"{layer}.weight") for layer in NORMS),
    *(Rule(name, name) for name in HUB if not name.endswith(".weight")),
)


def hub_name(path: str) -> str:
    """A dotted Flax path by its hub name: `kernel` and `scale` are called `weight` there. A hub name stays as it is."""
    module, _, leaf = path.rpartition(".")
    return f"{module}.weight" if leaf in ("kernel", "scale") else path


def read(config: Json, beside: Callable[[str], Json | None]) -> Described:
    """Our own config.json, whatever the layout beside it.

    Raises:
        CheckpointError: another format or version, or values that are none.
    """
    if config.get("format") != FORMAT or config.get("version") != VERSION:
        raise CheckpointError(
            f"config.json: expected format {FORMAT!r} version {VERSION}, got {config.get('format')!r} version "
            f"{config.get('version')!r}: was it written by a newer vit-parity?"
        )
    try:
        given = _object(config, "config")
        fields = ViTConfig.from_dict(given).to_dict()
        defaults = dict.fromkeys(set(fields) - set(given), "default")
        has_preprocess = config.get("preprocess") is not None
        preprocess = Preprocess.from_dict(_object(config, "preprocess")) if has_preprocess else None
        labels = _labels(config.get("labels"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"config.json: {error!s}") from None
    return Described(fields, preprocess, labels, sources=defaults)


def _object(config: Json, name: str) -> Json:
    if name not in config:
        raise ValueError(f"{name!r} is missing")
    if not isinstance(config[name], dict):
        raise ValueError(f"{name!r} must be an object of fields, got {_shown(config[name])}")
    return config[name]


def _labels(labels: Any) -> tuple[str, ...] | None:
    if labels is None:
        return None
    if not isinstance(labels, list):
        raise ValueError(f"'labels' must be a list of strings, got {_shown(labels)}")
    odd = [f"entry {i} is {_shown(label)}" for i, label in enumerate(labels) if not isinstance(label, str)]
    if odd:
        raise ValueError(f"'labels' must be a list of strings; {some(odd, ', ')}")
    return tuple(labels) or None


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def ours(layout: str) -> Callable[..., Files]:
    """The writer of our config.json for native, flax, and every layout that has no config file of its own."""

    def write(config: ViTConfig, preprocess: Preprocess | None, labels: tuple[str, ...] | None) -> Files:
        entries = {
            "format": FORMAT,
            "version": VERSION,
            **({} if layout == "native" else {"layout": layout}),
            "config": config.to_dict(),
            "preprocess": preprocess.to_dict() if preprocess else None,
            "labels": list(labels) if labels else None,
        }
        return Files({"config.json": entries})

    return write


def _if_named(*signature: str) -> Callable[[Mapping[str, Shape]], Mapping[str, Spelling] | None]:
    return lambda names: {} if all(name in names for name in signature) else None


NATIVE = Layout(
    name="native",
    summary="hub names in torch layout: one file that vit_torch and vit_flax both load",
    rules=NATIVE_RULES,
    recognise=_if_named(f"{CONV}.weight", "blocks.0.norm1.weight"),
    spell=lambda config: {},
    owns=lambda config: "format" in config and config.get("layout", "native") == "native",
    read=read,
    write=ours("native"),
)

FLAX = Layout(
    name="flax",
    summary="paths and array layouts of vit_flax: kernel (in, out), HWIO, scale",
    rules=FLAX_RULES,
    recognise=_if_named(f"{CONV}.kernel", "blocks.0.norm1.scale"),
    spell=lambda config: {},
    owns=lambda config: "format" in config and config.get("layout") == "flax",
    read=read,
    write=ours("flax"),
)
