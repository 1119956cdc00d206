"""Kernels that not every device has."""

import jax

from train.config import ConfigError, TrainConfig


def check_kernels(config: TrainConfig) -> None:
    """
    Raises:
        ConfigError: the config asks for cuDNN's attention, and the devices are no NVIDIA GPUs.
    """
    device = jax.devices()[0]
    nvidia = device.platform == "gpu" and "cuda" in device.client.platform_version.lower()
    if config.attention == "cudnn" and not nvidia:
        raise ConfigError(
            f"attention cudnn needs an NVIDIA GPU, and JAX has {device.device_kind}: use --attention fused"
        )
