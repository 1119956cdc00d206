"""How far float32 training drifts: the two frameworks from each other, and each from float64.

    python -m benchmarks.drift --steps 300 --seeds 2 --out docs/drift.png

One recipe (the digits', with its MixUp, CutMix, stochastic depth, clipping and EMA) trained four times from the same
weights, on the same batches and draws: by the specification and by the Flax trainer, in float32 and in float64. After
every step the parameters' distance |a - b| / |b| is taken, over all of them as one vector; so is the losses'.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ["JAX_ENABLE_X64"] = "1"  # before anything imports JAX

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity_tests.pairs import to_flax
from parity_tests.trajectories import to_spec
from train.config import TrainConfig
from train.draws import Draws, step_key
from train.input.data import Data, open_data
from train.input.order import batch_indices
from train.pictures import new_figure, save_png
from train.recipes import RECIPES
from train.step import Batch, Step, split_model
from vit_convert.layouts import get_layout
from vit_convert.table import from_layout
from vit_torch import ViT, training
from vit_torch.training.loop.recipe import make_hyper
from vit_torch.training.loop.settings import checked, flat
from vit_torch.training.loop.start import initialise

Point = tuple[float, np.ndarray]  # the loss of a step, and all parameters after it
Trajectory = Iterator[Point]

# Pair of runs -> its label, colour (Okabe & Ito 2008: told apart by every kind of sight) and line.
PAIRS = {
    ("flax32", "torch32"): ("Flax and PyTorch, float32", "#000000", "-"),
    ("torch32", "torch64"): ("PyTorch: float32 and float64", "#0072B2", "--"),
    ("flax32", "flax64"): ("Flax: float32 and float64", "#D55E00", "-."),
    ("flax64", "torch64"): ("Flax and PyTorch, float64", "#009E73", ":"),
}

WINDOW = 10  # steps over which losses are compared
SHOWN = (2, 10, 100, 200)  # steps in the table; after the first one nothing has moved yet


@dataclass(frozen=True)
class Task:
    """What all runs of a seed share."""

    config: TrainConfig
    data: Data
    steps: int

    @property
    def initial(self) -> ViT:
        """Float32 weights, so that float64 begins with the same."""
        settings = checked(flat(self.config.to_dict()), "the recipe")
        generator = torch.Generator().manual_seed(self.config.seed)
        model = ViT(self.config.model, generator=generator)
        initialise(model, settings, generator)
        return model

    @property
    def warmup(self) -> int:
        return self.config.warmup_steps(len(self.data.train))

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """images (B, H, W, C) uint8, labels (B,)."""
        split = self.data.whole_train
        chosen = batch_indices(self.config.seed, step, len(self.data.train), self.config.batch_size)
        return split.images[chosen], split.labels[chosen]


def make_task(seed: int, steps: int, batch_size: int) -> Task:
    """The digits' recipe in so many steps, of which a tenth warm up."""
    recipe = replace(RECIPES["digits"](), seed=seed, steps=steps, batch_size=batch_size)
    data = open_data(recipe)
    warmup = 0.1 * steps / recipe.steps_per_epoch(len(data.train))
    return Task(replace(recipe, schedule=replace(recipe.schedule, warmup_epochs=warmup)), data, steps)


def trainers_step(task: Task, dtype: Any) -> tuple[Step, dict[str, jax.Array]]:
    """The trainer's step, and its first parameters."""
    merge, params = split_model(to_flax(task.initial.to(torch.float64 if dtype == jnp.float64 else torch.float32)))
    p = task.data.preprocess
    step = Step(task.config, merge, tuple(p.mean), tuple(p.std), task.warmup, task.steps, param_dtype=dtype)
    return step, params


def by_flax(task: Task, dtype: Any) -> Trajectory:
    """The trainer's own steps with its own draws, compiled as users compile them. float32 is without x64, as theirs."""
    wide = dtype == jnp.float64
    with jax.enable_x64(wide):
        step, params = trainers_step(task, dtype)
        state, advance = step.init(params), jax.jit(step.train_step)
    for at in range(task.steps):
        with jax.enable_x64(wide):
            images, labels = task.batch(at)
            state, metrics = advance(state, Batch(jnp.asarray(images), jnp.asarray(labels)))
            arrays = [(path, np.asarray(x)) for path, x in state.params.items()]
        yield float(metrics["loss"]), as_vector(dict(from_layout(get_layout("flax"), task.config.model, arrays)))


def trainers_draws(task: Task) -> Iterator[Draws]:
    """Those of every step; precision changes nothing about them."""
    step, _ = trainers_step(task, jnp.float64)
    shape = (task.config.batch_size, *task.config.model.image_hw)
    draw = jax.jit(lambda at: step.draw(step_key(task.config.seed, at), shape))
    return (draw(at) for at in range(task.steps))


def by_torch(task: Task, dtype: torch.dtype) -> Trajectory:
    """The specification's steps, on the trainer's draws."""
    p, model = task.data.preprocess, task.initial.to(dtype)
    settings = checked(flat(task.config.to_dict()), "the recipe")
    lengths = dict(warmup_steps=task.warmup, total_steps=task.steps)
    hyper = make_hyper(settings, mean=tuple(p.mean), std=tuple(p.std), **lengths)
    state = training.init_state(model, hyper)
    for at, draws in enumerate(trainers_draws(task)):
        images, labels = (torch.tensor(x) for x in task.batch(at))
        metrics = training.train_step(model, state, images.permute(0, 3, 1, 2), labels.long(), to_spec(draws), hyper)
        yield metrics["loss"], as_vector({name: p.detach().numpy() for name, p in model.named_parameters()})


def as_vector(params: dict[str, np.ndarray]) -> np.ndarray:
    """All parameters, by hub name and in torch layout, as one vector in float64."""
    return np.concatenate([params[name].ravel().astype(np.float64) for name in sorted(params)])


RUNS: dict[str, Callable[[Task], Trajectory]] = {
    "torch32": lambda task: by_torch(task, torch.float32),
    "torch64": lambda task: by_torch(task, torch.float64),
    "flax32": lambda task: by_flax(task, jnp.float32),
    "flax64": lambda task: by_flax(task, jnp.float64),
}


def measure(task: Task) -> dict[str, np.ndarray]:
    """Pair -> (2, steps): the distance of the parameters after each step, and of its losses, as a part of the second
    run's. The four runs go side by side, so that no more than one step of each is held."""
    found: dict[str, list[tuple[float, float]]] = {label: [] for label, *_ in PAIRS.values()}
    sides = {name: run(task) for name, run in RUNS.items()}
    for at, points in enumerate(zip(*sides.values(), strict=True)):
        now = dict(zip(sides, points, strict=True))
        for (a, b), (label, *_) in PAIRS.items():
            (loss_a, params_a), (loss_b, params_b) = now[a], now[b]
            distance = np.linalg.norm(params_a - params_b) / np.linalg.norm(params_b)
            found[label].append((float(distance), abs(loss_a - loss_b) / abs(loss_b)))
        print(f"\r  seed {task.config.seed}, step {at + 1} of {task.steps}", end="", flush=True)
    print()
    return {label: np.array(pairs).T for label, pairs in found.items()}


def draw_picture(seeds: list[dict[str, np.ndarray]], path: Path) -> None:
    """The distances by step, on logarithmic axes: the geometric mean of the seeds, and their range."""
    figure = new_figure(8, 7.5)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    steps = 1 + np.arange(len(next(iter(seeds[0].values()))[0]))
    for label, colour, style in PAIRS.values():
        params = np.array([of[label][0] for of in seeds])
        params[params == 0] = np.nan  # before the first update, whose learning rate is 0
        above.plot(steps, np.exp(np.log(params).mean(0)), style, color=colour, lw=2, label=label)
        above.fill_between(steps, params.min(0), params.max(0), color=colour, alpha=0.15, lw=0)
        below.plot(steps, smoothed(np.array([of[label][1] for of in seeds])), style, color=colour, lw=1.6)
    above.set_title("The same recipe, weights, batches and draws: how far training drifts", fontsize=12)
    above.set_ylabel("distance of all parameters\n|a - b| / |b|")
    below.set_ylabel(f"difference of losses,\nrms of {WINDOW} steps")
    below.set_xlabel("step")
    below.set_xlim(1, steps[-1])
    for axes in (above, below):
        axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    above.legend(frameon=False, loc="center right", bbox_to_anchor=(1, 0.42))
    save_png(figure, path)


def smoothed(losses: np.ndarray) -> np.ndarray:
    """Root mean square over the seeds and the last WINDOW steps: a difference that changes its sign is small there by
    chance."""
    squares = np.pad(np.square(losses).mean(0), (WINDOW - 1, 0), mode="edge")
    means = np.sqrt(np.lib.stride_tricks.sliding_window_view(squares, WINDOW).mean(-1))
    return np.where(means > 0, means, np.nan)


def table(seeds: list[dict[str, np.ndarray]]) -> str:
    """Markdown: the distance of the parameters after some steps, the geometric mean of the seeds."""
    steps = seeds[0][next(iter(seeds[0]))].shape[1]
    shown = [step for step in SHOWN if step < steps] + [steps]
    lines = ["| |" + "".join(f" step {step} |" for step in shown), "|---|" + "---|" * len(shown)]
    for label in seeds[0]:
        means = [np.exp(np.mean([np.log(of[label][0, step - 1]) for of in seeds])) for step in shown]
        lines.append(f"| {label} |" + "".join(f" {mean:.1e} |" for mean in means))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="length of the recipe, and of what is compared")
    parser.add_argument("--batch", type=int, default=32, help="images a step")
    parser.add_argument("--seeds", type=int, default=2, help="runs with other weights, batches and draws")
    parser.add_argument("--out", type=Path, default=Path("docs/drift.png"), help="the picture")
    parser.add_argument("--json", type=Path, help="write every distance here")
    arguments = parser.parse_args(argv)
    if arguments.steps < 2 or arguments.seeds < 1:
        parser.error("--steps must be at least 2 and --seeds at least 1")
    jax.config.update("jax_default_matmul_precision", "highest")  # float32 means float32, on a GPU too
    found = [measure(make_task(seed, arguments.steps, arguments.batch)) for seed in range(arguments.seeds)]
    print(f"\n{table(found)}")
    draw_picture(found, arguments.out)
    if arguments.json:
        distances = [{label: pair.tolist() for label, pair in of.items()} for of in found]
        arguments.json.write_text(json.dumps(distances) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
