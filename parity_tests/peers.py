"""The libraries that parity is proven against, imported so that it works beside a CPU build of torch."""

import sys
from types import ModuleType

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
