"""Each package loads only what it may: no framework before it is asked for, and never the other one.

Held twice. In a clean interpreter every module of a package is imported, which catches what loads
indirectly; and the sources are parsed, which catches an import inside a function.
"""

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

JAX = {"jax", "jaxlib", "flax", "optax", "orbax"}
PEERS = {"timm", "transformers", "torchvision"}
OURS = {"vit_convert", "vit_torch", "vit_flax", "train", "vit_tools", "parity_tests", "benchmarks"}

# Package -> what importing all of it must not load.
NOT_LOADED = {
    "vit_convert": {"torch", "matplotlib"} | JAX | PEERS,
    "vit_torch": {"vit_flax"} | JAX | PEERS,
    "vit_flax": {"torch", "vit_torch"} | PEERS,
    "train": {"torch", "vit_torch"} | PEERS,
    "vit_tools": {"torch"} | JAX | PEERS,
}

# Package -> what its sources must not import, not even inside a function. Reading .pt needs torch.
NOT_NAMED = {
    "vit_convert": (OURS - {"vit_convert"}) | JAX | PEERS,
    "vit_torch": (OURS - {"vit_torch", "vit_convert"}) | JAX | PEERS,
    "vit_flax": (OURS - {"vit_flax", "vit_convert"}) | {"torch"} | PEERS,
    "train": (OURS - {"train", "vit_flax", "vit_convert"}) | {"torch"} | PEERS,
    "vit_tools": {"train", "parity_tests", "benchmarks"},
}

IMPORT_ALL = """
import importlib, json, pkgutil, sys
loaded = {}
def visit(name):
    module = importlib.import_module(name)
    loaded[name] = sorted({n.partition(".")[0] for n in sys.modules})
    for child in pkgutil.iter_modules(getattr(module, "__path__", ()), name + "."):
        visit(child.name)
visit(sys.argv[1])
print(json.dumps(loaded))
"""


@cache
def loaded_by(package: str) -> dict[str, set[str]]:
    """Module of `package` -> top-level names in sys.modules after it and those before it were imported."""
    command = [sys.executable, "-c", IMPORT_ALL, package]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {module: set(names) for module, names in json.loads(done.stdout.splitlines()[-1]).items()}


def named_in(source: str) -> set[str]:
    """Top-level names that a source imports anywhere, spelled as a statement."""
    nodes = list(ast.walk(ast.parse(source)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    from_ = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.partition(".")[0] for name in plain | from_}


@pytest.mark.parametrize("package", NOT_LOADED)
def test_importing_a_package_loads_only_what_it_may(package: str) -> None:
    modules = loaded_by(package)
    assert len(modules) > 1
    wrong = {module: sorted(names & NOT_LOADED[package]) for module, names in modules.items()}
    assert not any(wrong.values()), {module: names for module, names in wrong.items() if names}


@pytest.mark.parametrize("package", NOT_NAMED)
def test_sources_name_only_what_they_may(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert len(files) > 1
    wrong = {str(f.relative_to(ROOT)): sorted(named_in(f.read_text("utf-8")) & NOT_NAMED[package]) for f in files}
    assert not any(wrong.values()), {file: names for file, names in wrong.items() if names}


def test_the_checks_see_what_they_look_for() -> None:
    assert "torch" in loaded_by("vit_torch")["vit_torch.vit"]
    assert {"jax", "flax"} <= loaded_by("vit_flax")["vit_flax.vit"]
    source = "import numpy as np\ndef f():\n    import torch.nn\n    from vit_torch.vit import ViT\nfrom . import jax"
    assert named_in(source) == {"numpy", "torch", "vit_torch"}
