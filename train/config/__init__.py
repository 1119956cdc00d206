"""TrainConfig: everything that decides a training run. What a field means stands beside it, and `--help` shows it.

The architecture is `vit_convert.ViTConfig`; the values here are the run's.
"""

from train.config.augment import AugmentConfig
from train.config.checks import ConfigError
from train.config.data import DataConfig
from train.config.hosts import HostsConfig
from train.config.optimizer import OptimizerConfig, ScheduleConfig
from train.config.run import CheckpointConfig, DevicesConfig, LogConfig, StartConfig, TrainConfig

__all__ = [
    "AugmentConfig",
    "CheckpointConfig",
    "ConfigError",
    "DataConfig",
    "DevicesConfig",
    "HostsConfig",
    "LogConfig",
    "OptimizerConfig",
    "ScheduleConfig",
    "StartConfig",
    "TrainConfig",
]
