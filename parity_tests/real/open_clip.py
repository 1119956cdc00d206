"""open_clip's visual towers, made in float64."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from parity_tests.peers import float64_rotary_tables, import_torchvision
from parity_tests.real.base import Forward

VISUAL = "visual."  # before the tower's names in a whole CLIP


@contextmanager
def in_float64() -> Iterator[None]:
    """Within it models are made in float64, rotary tables too: open_clip hands no dtype to timm."""
    torch.set_default_dtype(torch.float64)
    try:
        with float64_rotary_tables():
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def make_tower(model_cfg: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """The visual tower that open_clip builds from a config, loaded strictly from a state dict that may have more."""
    import_torchvision()
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    vision = CLIPVisionCfg(**model_cfg["vision_cfg"])
    with in_float64():
        visual = _build_vision_tower(model_cfg["embed_dim"], vision, model_cfg.get("quick_gelu", False)).eval()
    visual.load_state_dict({n.removeprefix(VISUAL): x.double() for n, x in state.items() if n.startswith(VISUAL)})
    return visual


def answer(visual: torch.nn.Module) -> Forward:
    def run(pixels: torch.Tensor) -> torch.Tensor:
        with float64_rotary_tables():
            return visual(pixels)

    return Forward(run, torch.nn.Module.__call__)
