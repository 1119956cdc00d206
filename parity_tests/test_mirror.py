"""The mirror: vit_torch and vit_flax have the same files, classes, attributes and order, but for a frozen list."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# What may differ, and nothing else. Each file here has a line that says why.
ONLY_IN_FLAX = {"linear.py", "names.py", "stack.py", "sums.py"}
ONLY_IN_TORCH = {"symbolic.py"}  # programs of torch.export for images of any size; jax.export's have one size
NAMES = {"forward": "__call__", "numpy_tensors": "numpy_tensors", "to_tensor": "to_array"}
KEYS = {"rngs", "key", "generator", "dtype", "param_dtype", "device", "remat", "scan"}
# Flax's bundle of (rngs, dtype, param_dtype), its x64 check, its GELU and its uniform draw (torch ships both);
# torch's bfloat16; cuDNN's attention, which Flax is told to take
OWN = {"of", "check_dtype", "gelu", "uniform_of", "to_numpy", "cudnn_attention", "check_cudnn", "FUSED"}


def files(package: str) -> set[str]:
    """Not folders: vit_torch/training is the train step's specification, and its Flax side is the package train."""
    return {path.name for path in (ROOT / package).glob("*.py")} - {"__main__.py"}


MIRRORED = sorted(files("vit_torch") - ONLY_IN_TORCH)


def outline(source: str) -> list[str]:
    """Classes, functions, methods and their arguments, and attributes set on self, in order."""
    lines: list[str] = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            lines.append(f"class {node.name}")
            lines += [line for item in node.body for line in member(node.name, item)]
        elif isinstance(node, ast.FunctionDef):
            lines += function("", node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            lines += [f"{ast.unparse(target)} ="] * (ast.unparse(target) not in OWN)
    return [line for line in lines if line]


def member(owner: str, node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef):
        return function(f"{owner}.", node)
    return [f"{owner}.{ast.unparse(node.target)}"] if isinstance(node, ast.AnnAssign) else []


def function(owner: str, node: ast.FunctionDef) -> list[str]:
    if node.name in OWN:
        return []
    name = next((torch for torch, flax in NAMES.items() if node.name == flax), node.name)
    arguments = [a.arg for a in (*node.args.args, *node.args.kwonlyargs) if a.arg not in KEYS | OWN]
    lines = [f"{owner}{name}({', '.join(arguments)})"]
    for statement in ast.walk(node):
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            lines += [f"{owner}{name}: {ast.unparse(t)}" for t in targets if is_attribute(t)]
    return lines


def is_attribute(target: ast.expr) -> bool:
    return (
        isinstance(target, ast.Attribute) and ast.unparse(target.value) in ("self", "model") and target.attr not in KEYS
    )


def differences(torch_source: str, flax_source: str) -> list[str]:
    ours, theirs = outline(torch_source), outline(flax_source)
    if ours == theirs:
        return []
    both = [*([line] for line in ours if line not in theirs), *([line] for line in theirs if line not in ours)]
    return [line for lines in both for line in lines] or ["the order differs"]


def test_both_packages_have_the_same_files():
    assert files("vit_torch") - ONLY_IN_TORCH == files("vit_flax") - ONLY_IN_FLAX


@pytest.mark.parametrize("name", MIRRORED)
def test_classes_methods_attributes_and_their_order_are_the_same(name):
    ours, theirs = ((ROOT / package / name).read_text() for package in ("vit_torch", "vit_flax"))
    assert differences(ours, theirs) == []


@pytest.mark.parametrize("name", MIRRORED)
def test_the_documentation_is_the_same(name):
    """Module docstrings, but for the initial values' own imports: one text, two frameworks."""
    ours, theirs = (ast.get_docstring(ast.parse((ROOT / p / name).read_text())) for p in ("vit_torch", "vit_flax"))
    if name not in ("__init__.py", "pretrained.py"):  # these name their framework
        assert ours == theirs


BROKEN = {
    "an attribute renamed": ("self.ls1 =", "self.scale1 ="),
    "two attributes swapped": ("self.norm1 =", "self.norm2_ ="),
    "a method's argument renamed": ("masks: Array | None = None", "keep_masks: Array | None = None"),
    "a class renamed": ("class Block(", "class FlaxBlock("),
}


@pytest.mark.parametrize(("old", "new"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_mirror_is_noticed(old, new):
    ours, theirs = ((ROOT / package / "block.py").read_text() for package in ("vit_torch", "vit_flax"))
    assert old in theirs
    assert differences(ours, theirs.replace(old, new))


def test_another_order_is_noticed():
    source = (ROOT / "vit_flax" / "block.py").read_text()
    lines = source.splitlines()
    first, second = (next(i for i, line in enumerate(lines) if f"self.norm{n} =" in line) for n in (1, 2))
    lines[first], lines[second] = lines[second], lines[first]
    assert differences((ROOT / "vit_torch" / "block.py").read_text(), "\n".join(lines)) == ["the order differs"]
