"""What lies where on the mesh: rules over the parameters' names and roles, never over their number of axes.

| placement | a parameter, its moments, its average | a device's work |
|---|---|---|
| replicated | on every device | a part of the batch |
| FSDP (ZeRO stage 3, Rajbhandari et al. 2020) | in parts over `data` | the same; parts are gathered for it |
| tensor (Shoeybi et al. 2019, section 3) | qkv, fc1: columns; proj, fc2: rows over `model` | some heads and columns |

FSDP and tensor go together: each takes an axis of its own of a parameter. The fused columns of qkv are q | k | v, and
gate | value those of a SwiGLU's fc1: a device's even part of them is no set of whole heads. That is a matter of layout
alone: the compiler moves what a device needs of the others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeVar

import jax
import numpy as np
from jax import Array
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from train.config import TrainConfig
from train.devices.mesh import DATA, MODEL, Devices, data_mesh, make_mesh
from train.step import State
from vit_convert.layouts.native import hub_name
from vit_convert.roles import role

# Fewer values than this lie whole on every device under FSDP: gathering them takes longer than keeping them.
SMALL = 4096

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
GATHERED = "gathered"  # how the parameters that FSDP gathers are called in the program


@dataclass(frozen=True)
class Placement:
    """Where a run's arrays lie."""

    mesh: Mesh
    fsdp: bool = False
    small: int = SMALL

    @property
    def replicated(self) -> NamedSharding:
        """The whole array on every device."""
        return NamedSharding(self.mesh, P())

    @property
    def batch(self) -> NamedSharding:
        """The rows (the first axis) in parts over `data`."""
        return NamedSharding(self.mesh, P(DATA))

    @property
    def parts(self) -> int:
        """In how many parts a batch lies."""
        return self.mesh.shape[DATA]

    def parameter(self, path: str, shape: tuple[int, ...]) -> NamedSharding:
        """Where the parameter of this Flax path lies."""
        axes: list[str | None] = [None] * len(shape)
        if self.mesh.shape[MODEL] > 1:
            axes = tensor_axes(hub_name(path), len(shape))
        if self.fsdp and splits(hub_name(path)) and prod(shape) >= self.small:
            free = [i for i, n in enumerate(shape) if axes[i] is None and n % self.parts == 0]
            if free:
                axes[max(free, key=lambda i: shape[i])] = DATA
        return NamedSharding(self.mesh, P(*axes))

    def parameters(self, params: Mapping[str, Any]) -> dict[str, NamedSharding]:
        """Where each of these parameters (arrays, or their shapes and dtypes) lies, by Flax path."""
        return {path: self.parameter(path, x.shape) for path, x in params.items()}

    def state(self, state: State) -> State:
        """Where each array of a state lies; `state` may be abstract, as of jax.eval_shape.

        What stands under a parameter's path and has its shape (a moment, an average) lies where the parameter does.
        All else (counts, Adafactor's factors, which are a row or a column of a parameter) lies on every device.
        """
        shapes = {path: x.shape for path, x in state.params.items()}
        places = self.parameters(state.params)

        def place(keys: tuple[Any, ...], x: Any) -> NamedSharding:
            named = (key.key for key in reversed(keys) if isinstance(key, jax.tree_util.DictKey))
            path = next((name for name in named if name in shapes), None)
            return self.replicated if path is None or shapes[path] != x.shape else places[path]

        return jax.tree_util.tree_map_with_path(place, state)

    def abstract(self, state: State) -> State:
        """An abstract state, as of jax.eval_shape, that knows where each array lies."""
        known = lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)  # noqa: E731
        return jax.tree.map(known, state, self.state(state))

    def init(self, make: Callable[[T], State], given: T) -> State:
        """make(given), a key or parameters, computed where it shall lie."""
        where = self.state(jax.eval_shape(make, given))
        return jax.jit(make, out_shardings=where)(given)

    def share(self, batch: T) -> T:
        """Inside a jitted function: these arrays' rows are in parts over `data`."""
        return jax.lax.with_sharding_constraint(batch, self.batch)

    def gathered(self, function: F) -> F:
        """A function of parameters (dicts by path) and arrays, to which what FSDP split of the parameters comes whole.

        Said, not left to the compiler, which would rather cut the activations of a layer than gather its kernel, and
        sends many times as much. In the backward pass they are gathered again, not kept: ZeRO stage 3.
        """
        if not self.fsdp:
            return function
        keep = jax.checkpoint_policies.save_anything_except_these_names(GATHERED)

        def on_whole(*given: Any) -> Any:
            return function(*(self.whole(x) if isinstance(x, dict) else x for x in given))

        return jax.checkpoint(on_whole, policy=keep)  # pyright: ignore[reportReturnType]

    def whole(self, params: Mapping[str, Array]) -> dict[str, Array]:
        """Inside a jitted function: each parameter as it lies without FSDP."""
        apart = replace(self, fsdp=False).parameters(params)
        return {
            path: checkpoint_name(jax.lax.with_sharding_constraint(x, apart[path]), GATHERED)
            for path, x in params.items()
        }

    def put(self, path: str, array: Any) -> Array:
        """A parameter that every host has in memory, onto the devices: each gets its own part alone."""
        return put(array, self.parameter(path, array.shape))

    def gather(self, params: Mapping[str, Array]) -> dict[str, np.ndarray]:
        """Parameters from the devices into every host's memory, one at a time. All hosts have to call it."""
        whole = jax.jit(lambda x: x, out_shardings=self.replicated)
        return {path: np.asarray(whole(x).addressable_data(0)) for path, x in params.items()}


def put(array: Any, sharding: NamedSharding) -> Array:
    """An array that every host has in memory, onto the devices: each gets its own part alone, copied."""
    whole = np.asarray(array)
    return jax.make_array_from_callback(whole.shape, sharding, lambda at: np.array(whole[at]))


def make_placement(config: TrainConfig, devices: Devices | None = None) -> Placement:
    """The placement of a run, on all devices of all hosts unless some are given.

    Raises:
        ConfigError: the devices, the batch or the model can't be shared as the config says.
    """
    return Placement(make_mesh(config, devices), config.devices.fsdp)


def tensor_axes(name: str, ndim: int) -> list[str | None]:
    """Megatron's axes of the parameter with this hub name, in Flax's layout (in, out).

    Columns (out) are shared of what makes heads and hidden units, and rows (in) of what takes them back; the biases
    of columns with them. All else, the biases of rows too, is whole: those are added once, after the sum.
    """
    module, _, leaf = name.rpartition(".")
    columns = module.endswith(("attn.qkv", "attn_pool.q", "attn_pool.k", "attn_pool.v", "mlp.fc1"))
    rows = module.endswith(("attn.proj", "attn_pool.proj", "mlp.fc2"))
    axes: list[str | None] = [None] * ndim
    if columns or leaf in ("q_bias", "v_bias"):
        axes[-1] = MODEL
    elif rows and leaf == "weight":
        axes[-2] = MODEL
    return axes


def splits(name: str) -> bool:
    """Whether FSDP splits it: kernels and position tables. Biases, norms, scales and tokens are a row each."""
    return role(name) in ("kernel", "position")


def whole_placement() -> Placement:
    """Parameters on every device of all hosts, and a part of the batch on each."""
    return Placement(data_mesh())
