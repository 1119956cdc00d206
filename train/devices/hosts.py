"""Many hosts, one run: each process runs the same program and supplies its own rows of every batch.

What only one shall do (write files, show the progress) is the first one's; what stops one stops all, and all say it.
"""

import hashlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from train.config import ConfigError, HostsConfig
from train.devices.failures import check_devices
from train.errors import DataError, DeviceError, NonFiniteLoss, SavingError, Stopped

T = TypeVar("T")
MESSAGE_BYTES = 4096  # of a mistake, as the hosts tell it to each other


def start(config: HostsConfig) -> None:
    """Joins the other processes, if there are any to join, and begins on the devices. Before anything else of JAX.

    Raises:
        ConfigError: nothing says which of how many processes this is, or there are no devices.
    """
    if config.several:
        _join(config)
    check_devices()


def _join(config: HostsConfig) -> None:
    """Joins the other processes.

    Which process this is, JAX finds out under SLURM, on GKE, in a TPU pod and under Open MPI (jax.distributed);
    elsewhere the config says it. Collectives between CPUs are Gloo's.

    Raises:
        ConfigError: nothing says which of how many processes this is.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if config.coordinator is not None:
        print(f"process {config.process_id} of {config.processes} joins {config.coordinator}", file=sys.stderr)
    try:
        jax.distributed.initialize(config.coordinator, config.processes, config.process_id)
    except (ValueError, RuntimeError) as error:
        if config.coordinator is not None:
            raise ConfigError(
                f"process {config.process_id} of {config.processes} can't join --coordinator {config.coordinator} "
                f"({error}): is process 0 started there, its port free and open to this host, and is each "
                "--process-id given once?"
            ) from None
        raise ConfigError(
            f"--distributed: JAX finds no SLURM, GKE, TPU pod or Open MPI here that says which process this is "
            f"({error}): start it there, or give --coordinator HOST:PORT --processes N --process-id I"
        ) from None


def is_first() -> bool:
    """Whether this process writes the files and shows the progress."""
    return jax.process_index() == 0


def say_own(text: str, say: Callable[[str], None]) -> None:
    """Says what this process alone may have met: the first one by `say`, the others on stderr, with their numbers."""
    if is_first():
        say(text)
    else:
        print(f"vit-train: process {jax.process_index()}: {text}", file=sys.stderr, flush=True)


def together(action: Callable[[], T]) -> T:
    """action(), which every host does; a mistake of the user's that one of them meets is raised by all.

    Without it the others would wait for that one, in their next computation, until they are ended by force.

    Raises:
        ConfigError: of this host, or of the first that met one.
    """
    if not several():
        return action()
    done, wrong = None, ""
    try:
        done = action()
    except ConfigError as error:
        wrong = str(error) or "ConfigError"
    told = [_text(row) for row in multihost_utils.process_allgather(_bytes(wrong)).reshape(-1, MESSAGE_BYTES)]
    if found := next(((i, text) for i, text in enumerate(told) if text), None):
        raise ConfigError(f"process {found[0]}: {found[1]}")
    return done  # pyright: ignore[reportReturnType]


def several() -> bool:
    """Whether this is one process of many."""
    return jax.process_count() > 1


def gather_numbers(*numbers: int) -> list[tuple[int, ...]]:
    """These numbers (below 2^31) of every host, host after host. All hosts have to call it."""
    if not several():
        return [numbers]
    told = multihost_utils.process_allgather(np.array(numbers, np.int32))
    return [tuple(row) for row in told.reshape(-1, len(numbers)).tolist()]


def check_alike(**parts: str) -> None:
    """Compares what every host has of these, by sums of 31 bits. All hosts have to call it.

    Raises:
        ConfigError: on all hosts, naming the parts that aren't the same and the processes that differ from the first.
    """
    sums = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1 for text in parts.values()]
    told = gather_numbers(*sums)
    differ = {
        name: [str(process) for process, row in enumerate(told) if row[at] != told[0][at]]
        for at, name in enumerate(parts)
    }
    if wrong := [f"{name} (process {', '.join(of)})" for name, of in differ.items() if of]:
        raise ConfigError(
            f"the processes of a run need the same settings and data, but differ from process 0 in {'; '.join(wrong)}: "
            "start all by the same command, over the same files"
        )


@contextmanager
def guarded() -> Iterator[None]:
    """Within it an error that this host of several met alone ends its process. Of what `together` raised, of a loss and
    of a signal all hosts know, and leave side by side.
    """
    try:
        yield
    except (ConfigError, NonFiniteLoss, Stopped, KeyboardInterrupt):
        raise
    except Exception as error:
        if not several():
            raise
        abort(error)


def abort(error: Exception) -> NoReturn:
    """Ends this process after an error that the others don't know of, and at once: at a normal exit it would wait for
    them, and they for it. Their coordinator misses this one, and ends them too.
    """
    if isinstance(error, (DataError, DeviceError, SavingError)):
        print(f"vit-train: error: process {jax.process_index()}: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def rows_of_this_host(batch: NamedSharding, batch_size: int) -> slice:
    """Which rows of a batch lie on this host's devices: all of them if there is one host.

    Where one part of the batch belongs to several hosts (devices.tensor above the devices of a host), each of
    those has the same rows.

    Raises:
        ConfigError: they are no run of neighbours, so that no host could read just a part of a batch.
    """
    parts = {at[0].indices(batch_size)[:2] for at in batch.addressable_devices_indices_map((batch_size,)).values()}  # pyright: ignore[reportOptionalSubscript]
    begin, end = min(parts)[0], max(parts)[1]
    if sum(b - a for a, b in parts) != end - begin:
        raise ConfigError(f"the rows of a batch that are this host's are not side by side, but {sorted(parts)}")
    return slice(begin, end)


def global_batch(batch: NamedSharding, batch_size: int, rows: Any) -> Any:
    """Arrays of the whole batch from this host's rows of it: a pytree of (rows, ...) -> (batch_size, ...).

    The buffers may be aliased on a CPU: don't write to them again.
    """

    def one(x: np.ndarray) -> Array:
        return jax.make_array_from_process_local_data(batch, x, (batch_size, *x.shape[1:]))

    return jax.tree.map(one, rows)


def _bytes(text: str) -> np.ndarray:
    encoded = text.encode()[:MESSAGE_BYTES]
    return np.frombuffer(encoded.ljust(MESSAGE_BYTES, b"\0"), np.uint8)


def _text(row: np.ndarray) -> str:
    return np.asarray(row, np.uint8).tobytes().rstrip(b"\0").decode(errors="ignore")
