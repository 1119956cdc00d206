"""The proof as plain values, for JSON."""

import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from parity_tests.verify.measure import Errors, Exact
from parity_tests.verify.own_class import OriginalFailed, OriginalGaps
from parity_tests.verify.prove import Measured, Proof
from parity_tests.verify.verdict import Check, agrees, summary
from vit_convert.hub import num_parameters

FORMAT, VERSION = "vit-verify", 1
PACKAGES = ("vit-parity", "torch", "jax", "jaxlib", "flax", "numpy")
LIBRARIES = ("timm", "transformers", "torchvision", "open_clip_torch")


def facts(proof: Proof, checks: tuple[Check, ...], command: str) -> dict[str, Any]:
    """Everything that was measured; infinite and undefined numbers are null.

    Args:
        command: what would measure it again.
    """
    checkpoint = proof.source.checkpoint
    values = checkpoint.config.to_dict()
    found = {
        "format": FORMAT,
        "version": VERSION,
        "agrees": agrees(checks),
        "summary": summary(proof, checks),
        "checks": [asdict(check) | {"agrees": check.agrees} for check in checks],
        "checkpoint": {
            "source": proof.source.given,
            "layout": checkpoint.layout,
            "parameters": num_parameters(checkpoint.config),
            "dtypes": sorted({dtype.name for dtype in checkpoint.dtypes.values()}),
            "config": {name: {"value": values[name], "source": checkpoint.sources[name]} for name in values},
            "preprocess": checkpoint.preprocess.to_dict() if checkpoint.preprocess else None,
        },
        "notes": list(proof.said),
        "images": list(proof.images.names),
        "dtypes": {dtype: _measured(measured) for dtype, measured in proof.dtypes.items()},
        "original": _original(proof.original),
        "tensors": [asdict(mapped) for mapped in proof.tensors],
        "reproduce": reproduce(proof, command),
        "seconds": dict(proof.seconds),
    }
    return _plain(found)


def reproduce(proof: Proof, command: str) -> dict[str, Any]:
    """What measures it again: the command, the seed, the versions, the machine."""
    return {
        "command": command,
        "seed": proof.asked.seed,
        "versions": versions(PACKAGES) | versions(LIBRARIES),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, on the CPU",
    }


def versions(names: tuple[str, ...]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _measured(measured: Measured) -> dict[str, Any]:
    distances = measured.distances
    if isinstance(distances, Exact):
        numbers = {"intermediates": dict(distances.gaps), "gradients": dict(distances.gradients)}
        products = None
    else:
        numbers = {"intermediates": _errors(distances.layers), "gradients": _errors(distances.gradients)}
        products = {name: {"length": x.length, **_error(x.errors)} for name, x in distances.products.items()}
    return {
        "images": measured.images,
        "images_of_gradients": measured.graded,
        **numbers,
        "products": products,
        "largest_difference": {name: asdict(place) for name, place in measured.places.items()},
        "predictions": asdict(measured.predictions) if measured.predictions else None,
        "unequal_tensors": list(measured.unequal),
        "own_class": measured.own,
    }


def _errors(errors: Any) -> dict[str, dict[str, float]]:
    return {name: _error(error) for name, error in errors.items()}


def _error(error: Errors) -> dict[str, float]:
    return {"torch": error.torch, "flax": error.flax, "ratio": error.ratio}


def _original(original: OriginalGaps | OriginalFailed | str) -> dict[str, Any]:
    if isinstance(original, str):
        return {"compared": False, "failed": False, "reason": original}
    if isinstance(original, OriginalFailed):
        return {"compared": False, "failed": True, "reason": original.reason}
    return {"compared": True, **asdict(original)}


def _plain(value: Any) -> Any:
    """With JSON's own types alone."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
