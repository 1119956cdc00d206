"""One golden case: a checkpoint in its family's container, the outputs of its family's code, and their source."""

import hashlib
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]
PACKAGES = ("torch", "timm", "transformers", "safetensors", "jax", "flax", "optax", "numpy", "scipy")
INPUT = "images_{h}x{w} are uint8, (batch, height, width, channel); the model saw images / 127.5 - 1 in float64"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is written for one checkpoint; `save` writes the checkpoint itself to the path that it is given."""

    family: str
    name: str
    suffix: str  # of the checkpoint, with the dot: what the family publishes; "/" for a folder
    save: Callable[[Path], None]
    container: str  # what lies around the weights, in words
    constructor: Mapping[str, Any]  # the class and its arguments
    config: Mapping[str, Any]  # the same facts as ViTConfig fields
    arrays: Arrays  # images and float64 outputs, by name
    outputs: Mapping[str, str]  # name of an output, without its size -> what it is
    patches: tuple[str, ...] = ()  # what was changed in the original at run time, for float64
    notes: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = field(default=())


def random_values(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Values for the parameter `name`: no zero and no one among them, scales (norms, layer scale) around one."""
    leaf = name.replace("/", ".").rpartition(".")[2]
    is_scale = leaf in ("scale", "weight_g") or leaf.startswith("gamma") or (leaf == "weight" and len(shape) == 1)
    return (0.3 * rng.standard_normal(shape) + is_scale).astype(np.float32)


def images(seed: int, size: tuple[int, int], count: int = 1) -> npt.NDArray[np.uint8]:
    """(count, height, width, 3) random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def model_input(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """What the models see: the same shape, in [-1, 1]."""
    return pixels.astype(np.float64) / 127.5 - 1


def key(name: str, size: tuple[int, int]) -> str:
    """Name of an array in the expected file: "output_20x20"."""
    return f"{name}_{size[0]}x{size[1]}"


def write(case: Case, root: Path, repository: Mapping[str, str], command: str) -> Path:
    """Writes `root`/family/name{suffix}, .json and .expected.npz; returns the checkpoint's path."""
    folder = root / case.family
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (case.name + case.suffix)
    case.save(path)
    np.savez_compressed(folder / f"{case.name}.expected.npz", allow_pickle=False, **case.arrays)
    facts = json.dumps(_facts(case, path, repository, command), indent=1)
    (folder / f"{case.name}.json").write_text(facts + "\n", encoding="utf-8")
    return path


def _facts(case: Case, path: Path, repository: Mapping[str, str], command: str) -> dict[str, Any]:
    outputs = {key(name, size): what for size in case.sizes for name, what in case.outputs.items()}
    return {
        "family": case.family,
        "case": case.name,
        "file": path.name,
        "sha256": sha256(path),
        "expected_sha256": sha256(path.parent / f"{case.name}.expected.npz"),
        "container": case.container,
        "constructor": dict(case.constructor),
        "config": dict(case.config),
        "sizes": [list(size) for size in case.sizes],
        "input": INPUT,
        "outputs": {name: what for name, what in outputs.items() if name in case.arrays},
        "provenance": {
            **repository,
            "command": command,
            "versions": versions(*PACKAGES),
            "changed_at_run_time": list(case.patches),
        },
        "notes": list(case.notes),
    }


def sha256(path: Path) -> str | dict[str, str]:
    """Of a file's bytes, in hexadecimal; of a folder, that of each file by its name."""
    if path.is_dir():
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(path.iterdir())}
    return hashlib.sha256(path.read_bytes()).hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """Package -> installed version, of those that are loaded."""
    return {name: importlib.metadata.version(name) for name in packages if name in sys.modules}


def git_repository(path: Path) -> dict[str, str]:
    """The origin's name and the commit of a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", path, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    return {"commit": git("rev-parse", "HEAD"), "commit_date": git("log", "-1", "--format=%cs")}
