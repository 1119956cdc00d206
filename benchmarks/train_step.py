"""One train step (forward, cross-entropy, backward, AdamW) of the same ViT, beside its peers, in one run.

    python -m benchmarks.train_step --models tiny small --rounds 15

Contenders take turns, step by step (A B C A B C ...), so that a machine whose speed drifts slows them
all alike; each round gives one ratio to vit_flax, and the median ratio is the result. Weights and heads
are random and every step has another batch: zeros are faster than numbers, and a zero head stops the
gradient. All run on the same processors, in float32. What is compared is the model and its gradient: the
optimizer is each framework's stock AdamW, without the augmentation, clipping and EMA that vit-train adds.
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MODELS = {"tiny": ("vit_tiny_patch16_224", 16), "small": ("vit_small_patch16_224", 8)}
NUM_BATCHES = 4
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.05
Run = Callable[[], None]  # one whole step, finished when it returns


@dataclass(frozen=True)
class Workload:
    """One model size: the preset's name and images a step."""

    preset: str
    batch: int

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(images (B, 224, 224, 3) float32, labels (B,)), a few random ones in turn."""
        rng = np.random.default_rng(0)
        made = [
            (rng.standard_normal((self.batch, 224, 224, 3), np.float32), rng.integers(0, 1000, self.batch))
            for _ in range(NUM_BATCHES)
        ]
        return itertools.cycle(made)


def flax_step(work: Workload) -> Run:
    """vit_flax under plain jax.jit, the state donated, optax.adamw."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    import vit_flax
    from vit_convert.presets import get_preset

    graph, params = nnx.split(vit_flax.ViT(get_preset(work.preset).config, rngs=nnx.Rngs(0)))
    optimizer = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits = nnx.merge(graph, params)(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(params: Any, state: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, Any, jax.Array]:
        value, grads = jax.value_and_grad(loss)(params, images, labels)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    compiled = jax.jit(step, donate_argnums=(0, 1))
    batches, held = work.batches(), [params, optimizer.init(params)]

    def run() -> None:
        images, labels = next(batches)
        held[0], held[1], value = compiled(held[0], held[1], jnp.asarray(images), jnp.asarray(labels))
        jax.block_until_ready((held, value))

    return run


def torch_step(work: Workload, model: Any, logits: Callable[[Any], Any] = lambda output: output) -> Run:
    """A torch model with torch.optim.AdamW."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    batches = work.batches()

    def run() -> None:
        images, labels = next(batches)
        x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).contiguous()
        y = torch.from_numpy(labels).to(device)
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(logits(model(x)), y).backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def our_torch(work: Workload) -> Any:
    import vit_torch
    from vit_convert.presets import get_preset

    return vit_torch.ViT(get_preset(work.preset).config)


def timm_model(work: Workload) -> Any:
    import timm

    return timm.create_model(work.preset)


def transformers_model(work: Workload) -> Any:
    import transformers

    from vit_convert.presets import get_preset

    c = get_preset(work.preset).config
    sizes: dict[str, Any] = dict(hidden_size=c.dim, num_hidden_layers=c.depth, num_attention_heads=c.num_heads)
    sizes |= dict(intermediate_size=c.mlp_dim, num_labels=c.num_classes)
    config = transformers.ViTConfig(**sizes)
    return transformers.ViTForImageClassification(config)


def compiled(model: Any) -> Any:
    import torch

    return torch.compile(model)


CONTENDERS: dict[str, Callable[[Workload], Run]] = {
    "vit_flax": flax_step,
    "vit_torch": lambda work: torch_step(work, our_torch(work)),
    "vit_torch, torch.compile": lambda work: torch_step(work, compiled(our_torch(work))),
    "timm": lambda work: torch_step(work, timm_model(work)),
    "timm, torch.compile": lambda work: torch_step(work, compiled(timm_model(work))),
    "transformers": lambda work: torch_step(work, transformers_model(work), lambda output: output.logits),
}


def measure(work: Workload, names: list[str], rounds: int, warmup: int) -> dict[str, list[float]]:
    """Name -> seconds of each round's step, the contenders taking turns."""
    runs = {}
    for name in names:
        print(f"  preparing {name} ...", flush=True)
        try:
            run = CONTENDERS[name](work)
            for _ in range(warmup):
                run()
        except Exception as error:  # torch.compile needs a C++ compiler: the others are still measured
            print(f"  skipped {name}: {str(error).splitlines()[0]}", flush=True)
            continue
        runs[name] = run
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds):
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
        print(f"\r  round {i + 1} of {rounds}", end="", flush=True)
    print()
    return seconds


def table(work: Workload, seconds: dict[str, list[float]]) -> str:
    """Markdown: median ms, images/s, and the time relative to vit_flax: median, quartiles over the rounds."""
    lines = [
        f"{work.preset}, {work.batch} images a step",
        "",
        "| contender | ms a step | images/s | time / vit_flax: median (quartiles) |",
        "|---|---|---|---|",
    ]
    ours = seconds["vit_flax"]
    for name, theirs in seconds.items():
        median = statistics.median(theirs)
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        spread = f"{middle:.2f} ({low:.2f} to {high:.2f})" if name != "vit_flax" else "1"
        lines.append(f"| {name} | {1000 * median:.0f} | {work.batch / median:.1f} | {spread} |")
    return "\n".join(lines)


def machine() -> str:
    """What ran it: processor, cores, versions."""
    import jax
    import torch

    name = processor()
    if jax.default_backend() != "cpu":
        name = f"{jax.devices()[0].device_kind} ({name})"
    packages = ["jax", "flax", "optax", "torch", "timm", "transformers"]
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    threads = f"{len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} torch threads"
    return f"{name}, {threads}, Python {platform.python_version()}; {versions}"


def processor() -> str:
    """Its name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor()])[0]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=2, help="steps of each contender that are not counted")
    parser.add_argument("--batch", type=int, help="images a step, instead of the model's own")
    parser.add_argument("--json", type=Path, help="write every timing here")
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2: a median needs a spread")
    import jax
    import torch

    from parity_tests.peers import import_torchvision

    import_torchvision()
    jax.config.update("jax_default_matmul_precision", "highest")  # float32 means float32, on a GPU too
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    print(machine())
    everything = {}
    for model in arguments.models:
        preset, batch = MODELS[model]
        work = Workload(preset, arguments.batch or batch)
        names = list(dict.fromkeys(["vit_flax", *arguments.contenders]))
        seconds = measure(work, names, arguments.rounds, arguments.warmup)
        everything[preset] = {"batch": work.batch, "seconds": seconds}
        print(f"\n{table(work, seconds)}\n")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "models": everything}, indent=2) + "\n")


if __name__ == "__main__":
    main()
