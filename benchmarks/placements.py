"""What each placement keeps on a device, and what the devices tell each other: counted in the compiled train step.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m benchmarks.placements --preset vit_base_patch16_224

Nothing is run, and no weights are made: the step is compiled for the devices that there are, and XLA says what it needs
(`memory_analysis`). Simulated CPU devices count as any others. What XLA plans for a TPU or a GPU is another plan for
the same step: its temporary memory and its choice of collectives differ, what the state takes doesn't.
"""

import argparse
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from train.config import AugmentConfig, DataConfig, DevicesConfig, TrainConfig
from train.devices.placement import Placement, make_placement
from train.draws import init_key
from train.model import make_model
from train.step import Batch, State, Step
from vit_convert.presets import get_preset

PLACEMENTS = {
    "one device": DevicesConfig(),
    "replicated": DevicesConfig(),
    "FSDP": DevicesConfig(fsdp=True),
    "tensor 2": DevicesConfig(tensor=2),
    "tensor 4": DevicesConfig(tensor=4),
    "FSDP, tensor 2": DevicesConfig(fsdp=True, tensor=2),
}
COLLECTIVE = re.compile(r"= (.+?) (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")
SHAPE = re.compile(r"\b([a-z]+)(\d+)\[([\d,]*)\]")
MB = 1e6


@dataclass(frozen=True)
class Taken:
    """Bytes on one device: the state, XLA's temporaries in a step and in making the state, what collectives give."""

    state: int
    step_temp: int
    init_temp: int
    collectives: Counter[str]
    seconds: float


def make_config(preset: str, batch_size: int, devices: DevicesConfig, dtype: Any) -> TrainConfig:
    augment = AugmentConfig(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1)
    return TrainConfig(
        model=get_preset(preset).config,
        data=DataConfig(name="random"),
        augment=augment,
        devices=devices,
        batch_size=batch_size,
        drop_path=0.1,
        ema_decay=0.9999,
        dtype=dtype,
    )


def measure(config: TrainConfig, placement: Placement) -> Taken:
    """Compiles the making of the state and one step of it."""
    begun = time.perf_counter()
    merge, values = make_model(config)
    channels = (0.5,) * config.model.in_channels
    step = Step(config, merge, channels, channels, 10, 100, gathered=placement.gathered)

    def make(key: Any) -> State:
        return step.init(values(key))

    abstract = jax.eval_shape(make, init_key(0))
    where = placement.state(abstract)
    init = jax.jit(make, out_shardings=where).lower(init_key(0)).compile()
    shapes = jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), abstract, where)
    H, W = config.model.image_hw
    B, C = config.batch_size, config.model.in_channels
    images: Any = jax.ShapeDtypeStruct((B, H, W, C), jnp.uint8, sharding=placement.batch)
    labels: Any = jax.ShapeDtypeStruct((B,), jnp.int32, sharding=placement.batch)
    stepped = jax.jit(step.train_step, donate_argnums=0, out_shardings=(where, placement.replicated))
    compiled = stepped.lower(shapes, Batch(images, labels)).compile()
    return Taken(
        state=sum(prod(at.shard_shape(x.shape)) * x.dtype.itemsize for x, at in leaves(abstract, where)),
        step_temp=memory(compiled).temp_size_in_bytes,
        init_temp=memory(init).temp_size_in_bytes,
        collectives=collectives(compiled.as_text() or ""),
        seconds=time.perf_counter() - begun,
    )


def leaves(abstract: Any, where: Any) -> Iterator[tuple[Any, Any]]:
    return zip(jax.tree.leaves(abstract), jax.tree.leaves(where), strict=True)


def memory(compiled: Any) -> Any:
    found = compiled.memory_analysis()
    assert found is not None, "this backend doesn't say what memory a program needs"
    return found


def collectives(program: str) -> Counter[str]:
    """Kind -> bytes of what they give to one device. A loop's body counts once."""
    found: Counter[str] = Counter()
    for shapes, kind in COLLECTIVE.findall(program):
        found[kind] += sum(
            prod(map(int, filter(None, sizes.split(",")))) * int(bits) // 8 for _, bits, sizes in SHAPE.findall(shapes)
        )
    return found


def row(name: str, taken: Taken) -> str:
    told = ", ".join(f"{kind} {size / MB:,.0f}" for kind, size in sorted(taken.collectives.items()))
    sizes = (taken.state, taken.init_temp, taken.step_temp)
    return f"| {name} | " + " | ".join(f"{size / MB:,.1f}" for size in sizes) + f" | {told or '-'} |"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", default="vit_base_patch16_224")
    parser.add_argument("--batch", type=int, default=64, help="images a step, over all devices")
    parser.add_argument("--placements", nargs="+", choices=PLACEMENTS, default=list(PLACEMENTS))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    a = parser.parse_args()
    devices = f"{jax.device_count()} devices ({jax.devices()[0].device_kind})"
    print(f"{a.preset}, {a.batch} images a step, {a.dtype}, {devices}, jax {jax.__version__}\n")
    print("| placement | state, MB a device | temporary, making it | temporary, a step | collectives, MB a device |")
    print("|---|---|---|---|---|", flush=True)
    heads = get_preset(a.preset).config.num_heads
    for name in a.placements:
        if heads % PLACEMENTS[name].tensor:
            continue
        config = make_config(a.preset, a.batch, PLACEMENTS[name], a.dtype)
        devices = jax.devices()[: 1 if name == "one device" else None]
        print(row(name, measure(config, make_placement(config, devices))), flush=True)


if __name__ == "__main__":
    main()
