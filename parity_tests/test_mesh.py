"""TPUs lie on the mesh as their network has them, as far as every host's rows of a batch are side by side."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest

from train.devices import mesh
from train.devices.mesh import arrange, by_network, hosts_are_whole


@dataclass(frozen=True)
class Tpu:
    """What JAX knows of one that isn't here."""

    id: int
    process_index: int
    coords: tuple[int, int, int]
    core_on_chip: int
    device_kind: str
    slice_index: int
    platform: str = "tpu"


def pod(kind: str, shape: tuple[int, int, int], cores: int = 1, slices: int = 1) -> list[Any]:
    """Hosts of 2 x 2 chips, by rows of the network's hosts, in the order of jax.devices()."""
    columns, rows, depth = shape
    across, down = columns // 2, rows // 2
    found = []
    for part, z, y, x, core in product(range(slices), range(depth), range(rows), range(columns), range(cores)):
        host = x // 2 + across * (y // 2 + down * (z + depth * part))
        found.append(Tpu(len(found), host, (x, y, z), core, kind, part))
    return found


PODS = {
    "v3-32": pod("TPU v3", (4, 4, 1), cores=2),
    "v4-32": pod("TPU v4", (2, 2, 4)),
    "v4-128": pod("TPU v4", (4, 4, 4)),
    "v5e-16": pod("TPU v5 lite", (4, 4, 1)),
    "v5e-256": pod("TPU v5 lite", (16, 16, 1)),
    "v5p-32": pod("TPU v5", (2, 2, 4)),
    "v6e-16": pod("TPU v6 lite", (4, 4, 1)),
    "two v5e-16": pod("TPU v5 lite", (4, 4, 1), slices=2),
}


def rows_of(found: np.ndarray) -> dict[int, list[int]]:
    """Host -> the rows of the mesh that its devices are in."""
    hosts = {device.process_index for device in found.flat}
    return {
        host: [i for i, row in enumerate(found) if host in {device.process_index for device in row}] for host in hosts
    }


@pytest.mark.parametrize("tensor", [1, 2, 4])
@pytest.mark.parametrize("name", PODS)
def test_each_host_of_a_tpu_pod_has_rows_side_by_side(name: str, tensor: int):
    """The order that JAX makes by the network alone has them apart on most."""
    devices = PODS[name]
    found = arrange((len(devices) // tensor, tensor), devices)
    assert found.shape == (len(devices) // tensor, tensor)
    assert sorted(device.id for device in found.flat) == list(range(len(devices)))
    assert hosts_are_whole(found)
    for rows in rows_of(found).values():
        assert rows == list(range(rows[0], rows[-1] + 1))


@pytest.mark.parametrize("name", PODS)
def test_the_order_by_network_alone_would_not_do(name: str):
    assert not hosts_are_whole(by_network((len(PODS[name]), 1), PODS[name]))


def test_chips_that_share_a_layers_columns_are_neighbours():
    for row in arrange((8, 2), PODS["v5e-16"]):
        (x, y, _), (u, v, _) = (device.coords for device in row)
        assert abs(x - u) + abs(y - v) == 1


def test_slices_share_the_axis_data_alone():
    for row in arrange((8, 4), PODS["two v5e-16"]):
        assert len({device.slice_index for device in row}) == 1


def test_an_order_that_tears_hosts_apart_falls_back_to_host_after_host(monkeypatch: pytest.MonkeyPatch):
    """Rows of two devices, of which each is another host's, can't be sorted so."""
    devices = PODS["v5e-16"]
    torn = np.array([devices[i] for i in (0, 2, 1, 8, 3, 10, 4, 6, 5, 9, 7, 11, 12, 14, 13, 15)]).reshape(8, 2)
    assert not hosts_are_whole(mesh.host_by_host(torn))
    monkeypatch.setattr(mesh, "by_network", lambda shape, devices: torn)
    found = arrange((8, 2), devices)
    assert hosts_are_whole(found)
    assert [device.process_index for device in found.flat] == sorted(device.process_index for device in devices)
