"""The libraries that parity is proven against, imported so that it works beside a CPU build of torch."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

_LIBRARIES = []  # a torch.library.Library takes its operators with it when it is collected


def import_torchvision() -> ModuleType:
    """torchvision; its PyPI wheels are linked against CUDA, so on a CPU torch their operators don't load.

    The real import is tried first. Where it fails for that reason alone, the two operators that
    torchvision's Python code needs at import are declared without an implementation: timm,
    torchvision.models and transformers never call them.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)
        import torchvision
    return torchvision


class Float64Torch(SimpleNamespace):
    """The module torch, in which float32 means float64."""

    float32 = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@contextmanager
def float64_rotary_tables() -> Iterator[None]:
    """Within it timm and transformers make their rotary tables by their own code, in float64 throughout.

    timm's models have to be made with dtype=torch.float64: they round their tables to that when they are made.
    """
    from timm.layers import pos_embed_sincos as timms
    from transformers.models.dinov3_vit import modeling_dinov3_vit as transformers_s

    periods, cpu = timms.RotaryEmbeddingDinoV3._compute_periods, torch.device("cpu")
    with (
        patch.object(timms, "torch", Float64Torch()),
        patch.object(timms, "_build_grid", partial(timms._build_grid, dtype=torch.float64)),
        patch.object(
            timms.RotaryEmbeddingDinoV3,
            "_compute_periods",
            lambda self, device=cpu: periods(self, device, torch.float64),
        ),
        patch.object(transformers_s, "torch", Float64Torch()),
    ):
        yield
