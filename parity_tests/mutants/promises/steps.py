"""float64: a few steps of the trainer are the specification's, on the same weights, batches and draws, rule by rule."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity_tests import trajectories
from parity_tests.mutants.promises.base import Measured, Promise, apart
from parity_tests.mutants.promises.compiled import Pair
from parity_tests.mutants.promises.model import initial
from parity_tests.pairs import to_flax
from parity_tests.trajectories import CASES, IMAGES, MEAN, STD, Run, differences, so_far, stacked, to_spec
from train.config import TrainConfig
from train.draws import Draws, step_key
from train.step import Batch, State, Step, split_model
from vit_flax import ViT as Flax
from vit_torch import ViT, training
from vit_torch.training.loop.recipe import make_hyper
from vit_torch.training.loop.settings import checked, flat

STEPS, WARMUP = 10, 3
MODEL = trajectories.MODEL.replace(depth=2)


@dataclass(frozen=True)
class Sides:
    """Some steps of one config by the trainer and by the specification."""

    config: TrainConfig

    @property
    def promise(self) -> Promise:
        return Promise(self.measure, self.conventional)

    def measure(self, seed: int) -> Iterator[Measured]:
        self.pair.draw(seed)
        yield from (Measured(*found) for found in differences(*self.runs(seed, self.pair.ours, self.pair.flax)))

    def conventional(self, folder: Path) -> float:
        """Parameters and EMA after ten steps from initial values.

        In float64, whose program is compiled already: float32's rounding is a ten-thousandth of what is allowed here.
        """
        model = initial(MODEL).double()
        ours, theirs = self.runs(0, model, to_flax(model))
        pairs = [(getattr(ours, what), getattr(theirs, what)) for what in ("params", "ema")]
        return max(apart(a[name], b[name]) for a, b in pairs for name in b)

    @cached_property
    def pair(self) -> Pair:
        return Pair(MODEL)

    @cached_property
    def programs(self) -> dict[str, Any]:
        """The trainer's step and its compiled parts: compiled for the first models, the same for all that follow."""
        return {}

    def runs(self, seed: int, model: ViT, twin: Flax) -> tuple[Run, Run]:
        """(the trainer's, the specification's) from the weights of these two models."""
        merge, params = split_model(twin)
        if not self.programs:
            step = Step(self.config, merge, MEAN, STD, WARMUP, STEPS, param_dtype=jnp.float64)
            draw = jax.jit(lambda seed, at: step.draw(step_key(seed, at), IMAGES))
            self.programs.update(step=step, draw=draw, update=jax.jit(step.update))
        drawn = [self.programs["draw"](seed, at) for at in range(STEPS)]
        batches = list(random_batches(seed))
        return self.by_the_trainer(params, batches, drawn), self.by_the_specification(model, batches, drawn)

    def by_the_trainer(self, params: dict[str, jax.Array], batches: list[Any], drawn: list[Draws]) -> Run:
        step: Step = self.programs["step"]
        state: State = step.init(params)
        rows = []
        for (images, labels), draws in zip(batches, drawn, strict=True):
            state, measured = self.programs["update"](state, Batch(jnp.asarray(images), jnp.asarray(labels)), draws)
            rows.append(measured)
        return so_far(step, state, rows)

    def by_the_specification(self, model: ViT, batches: list[Any], drawn: list[Draws]) -> Run:
        settings = checked(flat(self.config.to_dict()), "the config")
        hyper = make_hyper(settings, mean=MEAN, std=STD, warmup_steps=WARMUP, total_steps=STEPS)
        state = training.init_state(model, hyper)
        rows = [
            training.train_step(
                model,
                state,
                torch.tensor(images).permute(0, 3, 1, 2),
                torch.tensor(labels).long(),
                to_spec(draws),
                hyper,
            )
            for (images, labels), draws in zip(batches, drawn, strict=True)
        ]
        params = {name: p.detach().numpy() for name, p in model.named_parameters()}
        return Run(params, {name: e.numpy() for name, e in state.ema.items()}, stacked(rows))


def random_batches(seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """STEPS batches: images (B, H, W, 3) uint8, labels (B,) int32."""
    random = np.random.default_rng(seed)
    for _ in range(STEPS):
        yield (
            random.integers(0, 256, (*IMAGES, 3), dtype=np.uint8),
            random.integers(0, MODEL.num_classes, IMAGES[0], dtype=np.int32),
        )


PROMISES = {f"step: {name}": Sides(replace(config, model=MODEL)).promise for name, config in CASES.items()}
