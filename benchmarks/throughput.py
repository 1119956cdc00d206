"""Training throughput and MFU of a recipe's whole step on the devices that there are, its input on them already.

    python -m benchmarks.throughput deit_s deit_b --batch 1024

Augmentation, mixing, forward, backward, update and EMA are the recipe's own; input is one batch of noise on the
devices, so that nothing waits for it. Prints the median step of several windows, with the quickest and slowest.
"""

import argparse
import statistics
import time
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from benchmarks.train_step import machine
from train.config import TrainConfig
from train.devices.placement import make_placement
from train.draws import init_key
from train.flops import peak, train_flops
from train.loop import compile_advance
from train.model import make_model
from train.recipes import FROM_A_CHECKPOINT, RECIPES
from train.step import Batch, Step


def measure(config: TrainConfig, windows: int, steps: int) -> list[float]:
    """Seconds of a step, in each window."""
    placement = make_placement(config)
    merge, values = make_model(config)
    channels = (0.5,) * config.model.in_channels
    step = Step(config, merge, channels, channels, 10, 1000, gathered=placement.gathered)
    state: Any = placement.init(lambda key: step.init(values(key)), init_key(config.seed))
    batch = jax.device_put(noise(config), placement.batch)
    compiled = compile_advance(step, lambda batch: batch, state, batch)
    found = []
    for window in range(windows + 1):
        begun = time.perf_counter()
        for _ in range(steps):
            state, _ = compiled(state, batch)
        jax.block_until_ready(state)
        if window:  # the first one warms up
            found.append((time.perf_counter() - begun) / steps)
    return found


def noise(config: TrainConfig) -> Batch:
    random, (height, width) = np.random.default_rng(0), config.model.image_hw
    images = random.integers(0, 256, (config.batch_size, height, width, config.model.in_channels), np.uint8)
    return Batch(images, random.integers(0, config.model.num_classes, config.batch_size, np.int32))  # type: ignore[arg-type]


def row(name: str, config: TrainConfig, seconds: list[float]) -> str:
    middle, of_one = statistics.median(seconds), peak(jax.devices()[0], config.dtype)
    mfu = "-" if of_one is None else f"{train_flops(config) / (middle * of_one * jax.device_count()):.1%}"
    spread = f"{min(seconds) * 1000:.1f} to {max(seconds) * 1000:.1f}"
    speed = config.batch_size / middle
    return f"| {name} | {config.batch_size} | {middle * 1000:.1f} ({spread}) | {speed:,.0f} | {mfu} |"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "recipes", nargs="+", choices=[name for name, of in RECIPES.items() if of not in FROM_A_CHECKPOINT]
    )
    parser.add_argument("--batch", type=int, help="images a step, over all devices; else the recipe's")
    parser.add_argument("--attention", choices=("fused", "cudnn"), default="fused")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="in a window")
    a = parser.parse_args()
    print(f"{machine()}; {jax.device_count()} x {jax.devices()[0].device_kind}\n")
    print("| recipe | batch | ms a step: median (least to most) | images/s | MFU |\n|---|---|---|---|---|", flush=True)
    for name in a.recipes:
        config = RECIPES[name]()
        config = replace(
            config, attention=a.attention, batch_size=a.batch or config.batch_size, dtype=a.dtype or config.dtype
        )
        print(row(name, config, measure(config, a.windows, a.steps)), flush=True)


if __name__ == "__main__":
    main()
