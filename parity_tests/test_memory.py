"""Loading holds one copy of the weights, whatever the layout and the dtype, and nothing of the file; converting holds a
few tensors."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from parity_tests.memory import peak_memory
from parity_tests.selection import quick
from vit_convert.checkpoint import open_checkpoint, save_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.hub import hub_shapes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

TINY = ViTConfig(image_size=32, patch_size=16, dim=32, depth=2, num_heads=4, mlp_dim=64)
LARGE = TINY.replace(dim=768, depth=7, mlp_dim=3072)
WEIGHTS = sum(int(np.prod(shape)) for shape in hub_shapes(LARGE).values())
LARGEST = 4 * max(int(np.prod(shape)) for shape in hub_shapes(LARGE).values())  # bytes, as the files hold it

# name -> layout, dtype in the file and that of one tensor, dtype asked for, bytes of a parameter in the model
CASES = {
    "native": ("native", ("float32",), None, 4),
    "cast": ("native", ("float32",), "bfloat16", 2),
    "several dtypes": ("native", ("float16", "float32"), None, 4),
    "transformers": ("transformers", ("float32",), None, 4),
}

# Prints the bytes that loading adds at most, the same when a second model is held, and whether the file is mapped.
LOAD = """
import importlib, json, sys
from parity_tests.memory import Growth
package, tiny, large, dtype = sys.argv[1:]
model_class = importlib.import_module(package).ViT
def load(path):
    if dtype == "None":
        return model_class.from_pretrained(path)
    if package == "vit_torch":
        import torch
        return model_class.from_pretrained(path, dtype=getattr(torch, dtype))
    return model_class.from_pretrained(path, param_dtype=dtype)
load(tiny)
with Growth() as growth:
    models = [load(large)]
    once = growth.most
    mapped = large in open("/proc/self/maps").read()
    models.append(load(large))
print(json.dumps([once, growth.most, mapped]))
"""


def saved(folder: Path, config: ViTConfig, layout: str, dtypes: tuple[str, ...]) -> Path:
    shapes, rng = hub_shapes(config), np.random.default_rng(0)
    kinds = dict.fromkeys(shapes, dtypes[0]) | {"norm.weight": dtypes[-1]}
    stream = ((name, rng.random(shape, np.float32).astype(kinds[name])) for name, shape in shapes.items())
    save_checkpoint(folder, config, stream, dtypes=kinds, layout=layout)
    return folder


SLOWLY = [pytest.param(case, marks=pytest.mark.slow) for case in CASES if case != "native"]


@pytest.mark.parametrize("package", quick(["vit_torch", "vit_flax"], ["vit_flax"]))
@pytest.mark.parametrize("case", ["native", *SLOWLY])
def test_loading_holds_one_copy_of_the_weights(tmp_path, package, case):
    """Beside the weights there is room for the tensor on its way: as it is stacked, transposed, cast and copied,
    which is less than the largest one four times. A second copy of all would be 21 times the largest."""
    layout, dtypes, dtype, size = CASES[case]
    tiny = saved(tmp_path / "tiny", TINY, layout, dtypes)
    large = saved(tmp_path / "large", LARGE, layout, dtypes)
    command = [sys.executable, "-c", LOAD, package, str(tiny), str(large), str(dtype)]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    for path in large.iterdir():
        path.unlink()  # hundreds of MB, which pytest would keep
    assert done.returncode == 0, done.stderr
    once, twice, mapped = json.loads(done.stdout)
    assert once < size * WEIGHTS + 4 * LARGEST
    assert twice > 1.95 * size * WEIGHTS  # so a second copy is seen
    assert not mapped


@pytest.mark.parametrize("package", ["vit_torch", "vit_flax"])
def test_a_model_does_not_change_with_its_file(tmp_path, package):
    file = saved(tmp_path / "tiny", TINY, "native", ("float32",)) / "model.safetensors"
    model = importlib.import_module(package).ViT.from_pretrained(file.parent)
    before = {name: array.copy() for name, array in model.numpy_tensors()}
    with open(file, "r+b") as stream:  # the same file, not a new one under its name
        stream.seek(8 + int.from_bytes(stream.read(8), "little"))
        stream.write(bytes(4 * sum(array.size for array in before.values())))
    assert not any(array.any() for _, array in open_checkpoint(file.parent).tensors())
    assert all(np.array_equal(array, before[name]) for name, array in model.numpy_tensors())
    assert all(array.any() for array in before.values())


def test_the_command_converts_in_the_memory_of_a_few_tensors(tmp_path):
    """Every matrix is transposed: one is written while the next is made, from parts of it at most."""
    peaks = []
    for name, config in (("tiny", TINY), ("large", LARGE)):
        source, to = saved(tmp_path / name, config, "transformers", ("float32",)), tmp_path / f"{name}_flax"
        peaks.append(peak_memory([sys.executable, "-m", "vit_convert", str(source), str(to), "--to", "flax"]))
    for path in (*source.iterdir(), *to.iterdir()):
        path.unlink()
    assert peaks[1] - peaks[0] < 4 * LARGEST
