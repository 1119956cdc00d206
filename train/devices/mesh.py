"""One mesh over all devices of all hosts: its axis `data` shares the batch, its axis `model` the columns of a layer."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from train.config import TrainConfig
from train.config.checks import Check, check_all

DATA, MODEL = "data", "model"
Devices = Sequence[Any]  # jax.Device each, which is no type to type checkers


def make_mesh(config: TrainConfig, devices: Devices | None = None) -> Mesh:
    """The run's mesh, (data, model) = (devices / devices.tensor, devices.tensor), over all devices of all hosts.

    Its axes are `AxisType.Auto`: the compiler (GSPMD, Xu et al. 2021) places what no rule places.

    Raises:
        ConfigError: the devices, the batch or the model can't be shared so; all that can't be are named.
    """
    devices = jax.devices() if devices is None else devices
    check_mesh(config, len(devices))
    shape = len(devices) // config.devices.tensor, config.devices.tensor
    return Mesh(arrange(shape, devices), (DATA, MODEL), axis_types=(AxisType.Auto, AxisType.Auto))


def data_mesh() -> Mesh:
    """All devices of all hosts along `data`."""
    devices = jax.devices()
    return Mesh(arrange((len(devices), 1), devices), (DATA, MODEL), axis_types=(AxisType.Auto, AxisType.Auto))


def arrange(shape: tuple[int, int], devices: Devices) -> np.ndarray:
    """The devices as an array (data, model), neighbours in a TPU's network side by side, as jax.make_mesh has them, as
    far as each host's rows stay side by side: a host reads one part of a batch.

    Between slices, which only the slower network of the data centre joins, goes the axis `data` alone, as
    mesh_utils.create_hybrid_device_mesh is made for. On CPUs and GPUs this is jax.devices() in its own order, host
    after host; NVLink and InfiniBand are the collectives' own business.
    """
    if devices[0].platform != "tpu":
        return np.array(devices).reshape(shape)
    found = host_by_host(by_network(shape, devices))
    if hosts_are_whole(found):
        return found
    in_order = sorted(devices, key=lambda device: (getattr(device, "slice_index", 0), device.process_index, device.id))
    return np.array(in_order).reshape(shape)


def by_network(shape: tuple[int, int], devices: Devices) -> np.ndarray:
    """TPUs (data, model), neighbours side by side, whichever hosts they belong to."""
    data, model = shape
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    split: Any = dict(allow_split_physical_axes=True)  # an axis of the mesh may take a part of one of the network's
    if slices > 1 and data % slices == 0:
        return mesh_utils.create_hybrid_device_mesh((data // slices, model), (slices, 1), devices, **split)
    return mesh_utils.create_device_mesh(shape, devices, **split)


def host_by_host(mesh: np.ndarray) -> np.ndarray:
    """The rows of a mesh (data, model) by the hosts that their devices belong to; those of one host in their order.

    A TPU's network goes round its hosts: of v5e-16's sixteen rows in that order, the first host has 0, 1 and 6, 15.
    """
    return mesh[sorted(range(len(mesh)), key=lambda row: sorted(_hosts(mesh[row])))]


def hosts_are_whole(mesh: np.ndarray) -> bool:
    """Whether every host's rows are side by side."""
    for host in _hosts(mesh):
        rows = [row for row in range(len(mesh)) if host in _hosts(mesh[row])]
        if rows[-1] - rows[0] + 1 != len(rows):
            return False
    return True


def _hosts(devices: np.ndarray) -> set[tuple[int, int]]:
    """(slice, process) of each."""
    return {(getattr(device, "slice_index", 0), device.process_index) for device in devices.flat}


def check_mesh(config: TrainConfig, num_devices: int) -> None:
    """
    Raises:
        ConfigError: the devices, the batch or the model can't be shared; with every number, before anything compiles.
    """
    check_all(_checks(config, num_devices))


def _checks(config: TrainConfig, num_devices: int) -> Iterator[Check]:
    tensor, model, parts = config.devices.tensor, config.model, config.optimizer.accumulate
    divides = num_devices % tensor == 0
    yield divides, f"devices.tensor is {tensor}, but the {num_devices} devices that there are can't be shared by it"
    for name, value in (("num_heads", model.num_heads), ("mlp_dim", model.mlp_dim)):
        yield value % tensor == 0, f"devices.tensor is {tensor}, but model.{name} {value} can't be shared by it"
    data = num_devices // tensor
    if divides and config.batch_size % (data * parts):
        each = f" in each of optimizer.accumulate {parts} parts" if parts > 1 else ""
        fits = data * parts
        nearest = max(1, round(config.batch_size / fits)) * fits
        over = f"{num_devices} devices" + (f" / devices.tensor {tensor} = {data} parts" if tensor > 1 else "")
        yield False, f"batch_size {config.batch_size} can't be shared by {over}{each}: use --batch-size {nearest}"
