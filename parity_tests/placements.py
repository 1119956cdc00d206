"""One short run under each placement, in a process of its own: python -m parity_tests.placements OUT NAME... [hosts]

JAX has as many CPU devices as XLA_FLAGS=--xla_force_host_platform_device_count says when it starts, and float64 is
global: so test_devices.py and test_hosts.py start this, and read the JSON that it leaves in OUT.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from train.config import (
    AugmentConfig,
    DataConfig,
    DevicesConfig,
    HostsConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)
from train.devices import hosts
from train.devices.placement import Placement, make_placement
from train.draws import init_key, step_key
from train.evaluation.split import make_evaluate
from train.feed import make_feed
from train.input.data import Data
from train.input.sources.arrays import Arrays
from train.input.sources.base import Example
from train.loop import compile_advance
from train.model import make_model
from train.step import Batch, Params, State, Step, split_model
from vit_convert.config import ViTConfig
from vit_flax import ViT

STEPS, EXAMPLES, TESTED = 100, 40, 21  # 21 test images in batches of 16: the last batch is filled up
SMALL = 256  # all parameters of this model are small
MODEL = ViTConfig(
    image_size=(8, 12), patch_size=4, dim=32, depth=2, num_heads=4, mlp_dim=64, num_classes=5, num_registers=1,
    layer_scale=True,
)  # fmt: skip
CONFIG = TrainConfig(
    model=MODEL,
    data=DataConfig(name="drawn", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.1)),
    augment=AugmentConfig(padding=2, flip=True, mixup_alpha=0.8, cutmix_alpha=1.0, mix_share=0.9, label_smoothing=0.1),
    optimizer=OptimizerConfig(weight_decay=0.1, beta2=0.98, eps=1e-5, clip_norm=0.3),
    schedule=ScheduleConfig(learning_rate=1e-2, final_fraction=0.05),
    batch_size=16,
    seed=3,
    dropout=0.1,
    drop_path=0.2,
    ema_decay=0.95,
)

# Name -> devices (None: all that there are), what the config says.
PLACEMENTS: dict[str, tuple[int | None, DevicesConfig]] = {
    "one device": (1, DevicesConfig()),
    "replicated": (None, DevicesConfig()),
    "fsdp": (None, DevicesConfig(fsdp=True)),
    "tensor 2": (2, DevicesConfig(tensor=2)),
    "tensor 4": (None, DevicesConfig(tensor=4)),
    "fsdp and tensor 2": (None, DevicesConfig(fsdp=True, tensor=2)),
}

# What else a run may be on several devices: "fsdp and tensor 2; muon, scanned" is a name, too.
OTHERS: dict[str, dict[str, Any]] = {
    "lamb in 2 parts, scanned, rematerialised": dict(
        optimizer=replace(CONFIG.optimizer, name="lamb", accumulate=2), scan=True, remat=True
    ),
    "muon, scanned": dict(optimizer=replace(CONFIG.optimizer, name="muon"), scan=True),
}
NAMES = [*PLACEMENTS, *(f"{name}; {other}" for name in PLACEMENTS for other in OTHERS)]


class Recording(Step):
    """A step that also returns what it was given and drew."""

    def train_step(self, state: State, batch: Batch) -> tuple[State, dict[str, Any]]:
        B, H, W, _ = batch.images.shape
        draws = self.draw(step_key(self.config.seed, state.step), (B, H, W))
        state, metrics = self.update(state, batch, draws)
        key = None if draws.dropout is None else jax.random.key_data(draws.dropout)
        return state, metrics | {"batch": batch, "draws": draws._replace(dropout=key)}


@dataclass(frozen=True)
class Counted(Arrays):
    """A source that knows how many examples were read of it."""

    reads: list[int] = field(default_factory=list)  # a number a call: list.append is safe in threads

    def examples(self, indices: Sequence[int]) -> list[Example]:
        self.reads.append(len(indices))
        return super().examples(indices)


def drawn(seed: int, size: int) -> Counted:
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 256, (size, 8, 12, 3), dtype=np.uint8), rng.integers(0, 5, size, dtype=np.int32)
    return Counted(images, labels, tuple("abcde"), f"drawn {seed}")


def make_step(config: TrainConfig, placement: Placement) -> tuple[Step, Any]:
    """The step and its initial values in float64: drawn in float32, as a run draws them, and widened."""
    _, values = make_model(config)

    def model(key: Array) -> ViT:
        options: dict[str, Any] = dict(dropout=config.dropout, scan=config.scan, remat=config.remat)
        return ViT(config.model, rngs=nnx.Rngs(key), param_dtype=jnp.float64, **options)

    merge, _ = split_model(nnx.eval_shape(model, init_key(0)))

    def wide(key: Array) -> Params:
        return {path: x.astype(jnp.float64) for path, x in values(key).items()}

    return Recording(config, merge, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1), 20, STEPS, jnp.float64, placement.gathered), wide


def run(name: str, resident: bool) -> dict[str, Any]:
    """A hundred steps and an evaluation: what came of them, and what they took."""
    where, _, other = name.partition("; ")
    number, devices = PLACEMENTS[where]
    config = replace(CONFIG, devices=devices, data=replace(CONFIG.data, resident=resident), **OTHERS.get(other, {}))
    placement = replace(make_placement(config, jax.devices()[:number]), small=SMALL)
    step, values = make_step(config, placement)
    state = placement.init(lambda key: step.init(values(key)), init_key(config.seed))
    whole = jax.jit(lambda params: params, out_shardings=placement.replicated)(state.params)
    initial, held = digest(whole), bytes_held(state)
    data = Data(config, source := drawn(0, EXAMPLES), drawn(1, TESTED))
    feed, rows = make_feed(data, placement, STEPS), []
    with closing(feed.items(0)) as items:
        item = next(items)
        advance = compile_advance(step, feed.fetch, state, item)
        for at in range(STEPS):
            state, measured = advance(state, item if at == 0 else next(items))
            rows.append(measured)
    memory: Any = advance.memory_analysis()  # pyright: ignore[reportFunctionMemberAccess]
    evaluated = make_evaluate(step, data, placement)(state.params)
    assert evaluated.confusion is not None
    mine = hosts.rows_of_this_host(placement.batch, config.batch_size)
    return {
        "losses": [float(row["loss"]) for row in rows],
        "batches": digest([row["batch"] for row in rows]),
        "draws": digest([row["draws"] for row in rows]),
        "initial": initial,
        "evaluated": evaluated.row,
        "confusion": evaluated.confusion.tolist(),
        "state_bytes": held,
        "argument_bytes": memory.argument_size_in_bytes,
        "rows": [mine.start, mine.stop],
        "read": sum(source.reads),  # none where the images lie on the devices
    }


def bytes_held(state: State) -> list[int]:
    """The bytes of a state on each of this process's devices."""
    held: dict[Any, int] = {}
    for x in jax.tree.leaves(state):
        for shard in x.addressable_shards:
            held[shard.device] = held.get(shard.device, 0) + shard.data.nbytes
    return list(held.values())


def digest(tree: Any) -> str:
    """Of every bit."""
    found = hashlib.sha256()
    for x in jax.tree.leaves(tree):
        found.update(np.ascontiguousarray(x).tobytes())
    return found.hexdigest()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="+", choices=NAMES)
    parser.add_argument(
        "--resident", action="store_true", help="the images lie on the devices; else each host reads its rows"
    )
    parser.add_argument("--coordinator")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process-id", type=int)
    a = parser.parse_args()
    hosts.start(HostsConfig(coordinator=a.coordinator, processes=a.processes, process_id=a.process_id))
    a.out.write_text(json.dumps({name: run(name, a.resident) for name in a.names}))


if __name__ == "__main__":
    main()
