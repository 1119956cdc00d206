"""One file per layout; n layouts need n tables, each to the hub."""

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.layouts.base import Layout
from vit_convert.layouts.big_vision import BIG_VISION
from vit_convert.layouts.deit import DEIT
from vit_convert.layouts.deit3 import DEIT3
from vit_convert.layouts.dino import DINO
from vit_convert.layouts.dinov2 import DINOV2
from vit_convert.layouts.dinov3 import DINOV3
from vit_convert.layouts.mae import MAE
from vit_convert.layouts.native import FLAX, NATIVE
from vit_convert.layouts.open_clip import OPEN_CLIP
from vit_convert.layouts.open_clip_timm import OPEN_CLIP_TIMM
from vit_convert.layouts.scenic import SCENIC
from vit_convert.layouts.timm import TIMM
from vit_convert.layouts.timm_eva import EVA
from vit_convert.layouts.torchvision import TORCHVISION
from vit_convert.layouts.transformers import TRANSFORMERS
from vit_convert.layouts.transformers_flax import TRANSFORMERS_FLAX
from vit_convert.layouts.vit_jax import VIT_JAX
from vit_convert.steps import Step

# In the order in which a file's names are tried: what has the rarer names first. Whose names are timm's come behind
# timm: what tells them apart is what stands aside, or config.json.
RARER = (FLAX, *TRANSFORMERS, TORCHVISION, *OPEN_CLIP, *OPEN_CLIP_TIMM, DINOV3, DINOV2, DEIT3)
RARER += (*TRANSFORMERS_FLAX, VIT_JAX, BIG_VISION, SCENIC)
LAYOUTS = {layout.name: layout for layout in (*RARER, TIMM, EVA, NATIVE, MAE, DINO, DEIT)}
# A library's name stands for the first of its layouts that holds the model.
LIBRARIES = {
    library: tuple(layout for layout in LAYOUTS.values() if layout.name.startswith(f"{library}:"))
    for library in dict.fromkeys(name.partition(":")[0] for name in LAYOUTS if ":" in name)
}

__all__ = ["LAYOUTS", "LIBRARIES", "Layout", "choose", "get_layout", "layouts_named"]


def get_layout(name: str) -> Layout:
    """Raises CheckpointError for a name that is no layout."""
    return layouts_named(name)[0]


def layouts_named(name: str) -> tuple[Layout, ...]:
    """A layout, or all of a library's. Raises CheckpointError for a name that is neither."""
    if name in LIBRARIES:
        return LIBRARIES[name]
    if name not in LAYOUTS:
        from difflib import get_close_matches

        known = sorted({*LAYOUTS, *LIBRARIES})
        near = ", ".join(get_close_matches(name, known, n=3))
        meant = f"did you mean {near}? The layouts" if near else "the layouts"
        raise CheckpointError(f"unknown layout {name!r}; {meant} are {', '.join(known)}")
    return (LAYOUTS[name],)


def choose(name: str, config: ViTConfig) -> tuple[Layout, tuple[Step, ...]]:
    """The layout of this name, or of this library, that holds the model, and the steps that it takes first.

    One that holds it as it is goes before one that needs steps.

    Raises:
        CheckpointError: none can; the message is that of the one which lacks least.
    """
    options = layouts_named(name)
    for layout in options:
        if not layout.problems(config):
            return layout, ()
    settled = [(layout, *_settle(layout, config)) for layout in options]
    for layout, changed, steps in settled:
        if not layout.problems(changed):
            return layout, steps
    nearest, changed, _ = min(settled, key=lambda found: len(found[0].problems(found[1])))
    nearest.check(changed)
    raise AssertionError("unreachable: check raises for a layout with problems")


def _settle(layout: Layout, config: ViTConfig) -> tuple[ViTConfig, tuple[Step, ...]]:
    """The layout's own steps, as far as each leaves fewer problems."""
    steps: list[Step] = []
    for make in layout.adapts:
        step = make(config) if layout.problems(config) else None
        if step and len(layout.problems(step.config)) < len(layout.problems(config)):
            steps.append(step)
            config = step.config
    return config, tuple(steps)
