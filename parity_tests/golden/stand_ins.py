"""Stand-ins for modules that an original imports and never uses here: TensorFlow, data pipelines, metrics."""

import importlib
import sys
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock


class StandIn(ModuleType):
    """Has every attribute: the given ones, and else a MagicMock."""

    def __init__(self, name: str, **attributes: Any) -> None:
        super().__init__(name)
        self.__path__ = []
        vars(self).update(attributes)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock()


def stand_in(*names: str) -> None:
    """Puts a stand-in under each dotted name and its parents, wherever the real module can't be imported."""
    for name in names:
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            _ensure(".".join(parts[:end]))


def _ensure(name: str) -> None:
    try:
        importlib.import_module(name)
    except (ImportError, RuntimeError):  # torchvision raises RuntimeError beside a torch that it wasn't built for
        module = sys.modules[name] = StandIn(name)
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, module)
