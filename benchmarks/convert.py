"""Converting a checkpoint, beside `cp` of the same file, in one run: wall time and memory.

    python -m benchmarks.convert --models large giant --rounds 15

A ViT of random float32 weights is made once. In each round `cp` and `vit-convert` take turns, whole commands with
their start, each from the warm source to a name that isn't there yet, on one file system; neither calls fsync. A
conversion is divided by the `cp` of its own source just before, and the median ratio is the result.

Memory is the most that the command holds and no file backs, looked at all the time in a run of its own: RssAnon +
RssShmem of Linux's /proc/PID/status. The rest of its RSS is mapped files: page cache, which the system takes back.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from parity_tests.memory import peak_memory
from vit_convert.checkpoint import save_checkpoint
from vit_convert.hub import hub_shapes
from vit_convert.presets import get_preset

MODELS = {"large": "vit_large_patch16_224", "giant": "vit_giant_patch14_224"}
CONVERSIONS = (("native", "timm"), ("native", "transformers"), ("native", "flax"), ("flax", "native"))
# Modules are compiled once, as pip does when it installs them, not in every run.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
Timings = dict[str, tuple[list[float], list[float]]]  # conversion -> seconds of each round: cp's, ours


def make(preset: str, folder: Path) -> dict[str, Path]:
    """Layout -> checkpoint directory, of the layouts that are converted from: random normal weights."""
    config = get_preset(preset).config
    shapes, rng = hub_shapes(config), np.random.default_rng(0)
    weights = ((name, rng.standard_normal(shape, np.float32)) for name, shape in shapes.items())
    sources = {source: folder / source for source, _ in CONVERSIONS}
    save_checkpoint(sources["native"], config, weights, dtypes=dict.fromkeys(shapes, "float32"))
    for layout, path in sources.items():
        if layout != "native":
            timed(conversion(sources["native"], path, layout))
    return sources


def conversion(src: Path, dst: Path, layout: str) -> list[str]:
    return [sys.executable, "-m", "vit_convert", str(src), str(dst), "--to", layout]


def timed(command: list[str]) -> float:
    """Seconds of a whole command."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    return time.perf_counter() - begun


def measure(sources: dict[str, Path], rounds: int) -> tuple[dict[str, int], Timings]:
    """Conversion -> its memory in bytes, and its seconds beside cp's."""
    scratch = sources["native"].parent / "scratch"
    memory: dict[str, int] = {}
    timings: Timings = {f"{source} to {target}": ([], []) for source, target in CONVERSIONS}
    for i in range(-1, rounds):  # the first is the run that the memory is looked at in
        for source, target in CONVERSIONS:
            name, command = f"{source} to {target}", conversion(sources[source], scratch, target)
            if i < 0:
                memory[name] = peak_memory(command, ENVIRONMENT)
            else:
                timings[name][0].append(timed(["cp", "-r", str(sources[source]), str(scratch)]))
                shutil.rmtree(scratch)
                timings[name][1].append(timed(command))
            shutil.rmtree(scratch)
        print(f"\r  round {i + 1} of {rounds}", end="", flush=True)
    print()
    return memory, timings


def table(memory: dict[str, int], timings: Timings) -> str:
    """Markdown: median seconds, the time relative to cp: median, quartiles over the rounds; MB."""
    lines = [
        "| conversion | cp, s | vit-convert, s | time / cp: median (quartiles) | peak memory, MB |",
        "|---|---|---|---|---|",
    ]
    for name, (theirs, ours) in timings.items():
        low, middle, high = statistics.quantiles([b / a for a, b in zip(theirs, ours, strict=True)], n=4)
        medians = f"{statistics.median(theirs):.2f} | {statistics.median(ours):.2f}"
        lines.append(f"| {name} | {medians} | {middle:.2f} ({low:.2f} to {high:.2f}) | {memory[name] / 1e6:.0f} |")
    return "\n".join(lines)


def machine() -> str:
    """What ran it: processor, cores, versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "safetensors"))
    system = f"{len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.release()}"
    return f"{(names or ['processor'])[0]}, {system}, Python {platform.python_version()}; {versions}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["large"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dir", type=Path, help="where the files are made, and removed again: 3 times a checkpoint")
    parser.add_argument("--json", type=Path, help="write every timing here")
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2: a median needs a spread")
    print(machine())
    everything = {}
    for model in arguments.models:
        with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
            sources = make(MODELS[model], Path(folder))
            size = (sources["native"] / "model.safetensors").stat().st_size
            memory, timings = measure(sources, arguments.rounds)
        everything[MODELS[model]] = {"bytes": size, "memory": memory, "seconds": timings}
        print(f"\n{MODELS[model]}, {size / 1e9:.2f} GB\n\n{table(memory, timings)}\n")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "models": everything}, indent=2) + "\n")


if __name__ == "__main__":
    main()
