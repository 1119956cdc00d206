"""What devices can't do, in one message: there is none of the kind that was asked for, or its memory is too small."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from train.config import ConfigError
from train.errors import DeviceError


def check_devices() -> None:
    """Begins JAX's work on the devices.

    Raises:
        ConfigError: there are none of the kind that JAX_PLATFORMS asks for.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts where a platform has no devices
        asked = f"JAX_PLATFORMS is {os.environ.get('JAX_PLATFORMS', '')!r}"
        why = f": {error}" if str(error) else ""
        raise ConfigError(
            f"JAX finds no device to compute on ({asked}){why}. Without JAX_PLATFORMS it takes what there is; for a "
            "GPU or TPU it needs the extra cuda13 or tpu"
        ) from error


@contextmanager
def memory_failures(less: str) -> Iterator[None]:
    """Within it too little memory of a device is one message, which says what takes less.

    Raises:
        DeviceError: a device has too little memory for what is computed.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise DeviceError(f"the memory of a device is too small ({reason}). Less is taken by {less}") from error
