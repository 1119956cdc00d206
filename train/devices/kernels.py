"""Kernels that not every device has."""

from typing import Any

import jax

from train.config import ConfigError, TrainConfig


def has_cudnn(device: Any) -> bool:  # a jax.Device, which is no type to type checkers
    """Whether JAX reaches cuDNN through this device: it is an NVIDIA GPU."""
    return device.platform == "gpu" and "cuda" in device.client.platform_version.lower()


def check_kernels(config: TrainConfig) -> None:
    """
    Raises:
        ConfigError: the config asks for cuDNN's attention, and the devices are no NVIDIA GPUs.
    """
    device = jax.devices()[0]
    if config.attention == "cudnn" and not has_cudnn(device):
        raise ConfigError(
            f"attention cudnn needs an NVIDIA GPU, and JAX has {device.device_kind}: use --attention fused"
        )
