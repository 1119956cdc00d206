"""The class that a checkpoint was written for, of its own library, with the file's own tensors, in float64

Where no package that is installed has it, the reason says so by its name. What it refuses or answers otherwise is
another matter: that is a disagreement.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from parity_tests.peers import import_torchvision
from parity_tests.real.base import Forward
from parity_tests.verify.source import Source
from vit_convert.errors import some
from vit_convert.files import INDEX, WEIGHTS, find_weights, open_tensors, read_json
from vit_convert.presets import TIMM_EVA, TIMM_VIT
from vit_torch.pretrained import to_tensor

# Layouts of code that no package brings, and of classes that their package has no more.
NO_PACKAGE = {
    "deit": "facebookresearch/deit's VisionTransformer",
    "deit3": "facebookresearch/deit's vit_models",
    "dino": "facebookresearch/dino's VisionTransformer",
    "dinov2": "facebookresearch/dinov2's DinoVisionTransformer",
    "dinov3": "facebookresearch/dinov3's DinoVisionTransformer",
    "mae": "facebookresearch/mae's MaskedAutoencoderViT",
    "vit_jax": "google-research/vision_transformer's VisionTransformer",
    "big_vision": "google-research/big_vision's Model",
    "scenic": "google-research/scenic's ViT",
    "transformers_flax": "transformers' Flax class (gone since transformers 5)",
}
OURS = ("native", "flax")  # vit_torch and vit_flax are what they were written for
# Classes of transformers that hold more than the vision tower, and what gives that tower's answer.
TOWERS = {"CLIPModel": "get_image_features", "SiglipModel": "get_image_features"}
HEADS = ("ForImageClassification", "ForImageClassificationWithTeacher", "VisionModelWithProjection")


class Unavailable(Exception):
    """The original class can't be had: which, and why."""


class Refused(Exception):
    """The original class is there and doesn't give what is compared: which, and what it does instead."""


@dataclass(frozen=True)
class Original:
    """The class with the checkpoint in it."""

    name: str  # "transformers ViTForImageClassification"
    version: str  # of its library
    model: nn.Module
    answer: Forward
    save: Callable[[Path], None]  # writes what the model holds into a folder, under the names of the checkpoint's file


def open_original(source: Source) -> Original:
    """The checkpoint in its own class.

    Raises:
        Unavailable: there is no such class, nothing names it, or its library isn't installed.
        Refused: it doesn't take these tensors.
    """
    layout = source.checkpoint.layout
    library = layout.partition(":")[0]
    if layout in OURS:
        raise Unavailable(f"vit_torch.ViT is itself the class of layout {layout}")
    if library in NO_PACKAGE:
        raise Unavailable(f"{NO_PACKAGE[library]}: no package brings it")
    import_torchvision_first()
    try:
        return OPEN[library](source)
    except (Unavailable, Refused, MemoryError):
        raise
    except ModuleNotFoundError as error:
        if find_spec((error.name or "").partition(".")[0]) is None:
            raise Unavailable(f"{library} isn't installed ({error}): pip install 'vit-parity[parity]'") from error
        raise Refused(f"{library} can't be imported: {first_line(error)}") from error
    except Exception as error:  # whatever another library says of a file
        raise Refused(f"{library} doesn't load it: {first_line(error)}") from error


def import_torchvision_first() -> None:
    """timm, transformers and open_clip import it, where it is installed."""
    with suppress(ModuleNotFoundError):
        import_torchvision()


def of_timm(source: Source) -> Original:
    """The architecture that the config.json beside the file names, or that --preset does."""
    import timm

    from parity_tests.real.timm import answer, make

    config, folder = source.checkpoint.config, find_weights(source.path).parent
    state = state_of(source)
    if isinstance(name := beside(source, "config.json").get("architecture"), str):
        if not timm.is_model(name):
            raise Unavailable(f"timm's {name}: timm {version('timm')} has no such architecture")
        model = make(f"local-dir:{folder}", state)
    elif source.preset in {**TIMM_VIT, **TIMM_EVA}:
        size, channels, classes = config.image_hw, config.in_channels, config.num_classes
        model = make(source.preset, state, img_size=size, in_chans=channels, num_classes=classes)
    else:
        raise Unavailable("timm's class: no config.json of timm's beside the file and no --preset of timm's names it")
    return Original(f"timm {type(model).__name__}", version("timm"), model, answer(model), as_named(source, model))


def of_transformers(source: Source) -> Original:
    """The class that config.json names; what isn't one of a vision tower is loaded as its model without a head."""
    import transformers

    from parity_tests.real.transformers import answer

    path, said = find_weights(source.path), beside(source, "config.json")
    if not said:
        raise Unavailable("transformers' class: no config.json beside the file names it")
    if path.name not in (WEIGHTS, INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json"):
        raise Unavailable(f"transformers' class: it loads {WEIGHTS} or pytorch_model.bin of a folder, not {path.name}")
    if said.get("model_type") not in transformers.CONFIG_MAPPING:
        kind = said.get("model_type")
        raise Unavailable(f"transformers' class: transformers {version('transformers')} has no model_type {kind!r}")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    cls = class_of(transformers, str((said.get("architectures") or [""])[0]))
    # The file's own numbers: left to itself it rounds them to the dtype that config.json names.
    options: dict[str, Any] = dict(dtype=torch.float64, local_files_only=True)
    options["use_safetensors"] = path.name in (WEIGHTS, INDEX)
    config = source.checkpoint.config
    if said["model_type"] in ("vit", "deit") and not config.num_classes and not config.pre_logits:
        options["add_pooling_layer"] = False
    model, loaded = cls.from_pretrained(path.parent, output_loading_info=True, **options)
    if lacking := [*loaded["missing_keys"], *loaded["mismatched_keys"]]:
        names = some(sorted(str(name) for name in lacking), ", ", 3)
        raise Refused(
            f"transformers' {type(model).__name__} finds not all of its tensors in the file: it lacks {names}"
        )
    run = answer(model, TOWERS.get(type(model).__name__, "__call__"))
    return Original(f"transformers {type(model).__name__}", version("transformers"), model, run, model.save_pretrained)


def class_of(library: Any, name: str) -> Any:
    """The class of this name if it gives a vision tower's answer, else what the library makes of it without a head."""
    known = name in TOWERS or name.endswith((*HEADS, "Model"))
    return getattr(library, name) if known and hasattr(library, name) else library.AutoModel


def of_torchvision(source: Source) -> Original:
    from parity_tests.real.torchvision import answer, make, options_of

    model = make(state_of(source), **options_of(source.checkpoint.config))
    return Original(
        "torchvision VisionTransformer", version("torchvision"), model, answer(model), as_named(source, model)
    )


def of_open_clip(source: Source) -> Original:
    """The visual tower of the model that the open_clip_config.json beside the file says."""
    from parity_tests.real.open_clip import VISUAL, answer, make_tower

    said = beside(source, "open_clip_config.json")
    if "model_cfg" not in said:
        raise Unavailable("open_clip's class: no open_clip_config.json beside the file says how it is made")
    visual = make_tower(said["model_cfg"], state_of(source))
    name, save = f"open_clip {type(visual).__name__}", as_named(source, visual, VISUAL)
    return Original(name, version("open_clip_torch"), visual, answer(visual), save)


OPEN: dict[str, Callable[[Source], Original]] = {
    "timm": of_timm,
    "transformers": of_transformers,
    "torchvision": of_torchvision,
    "open_clip": of_open_clip,
}


def state_of(source: Source) -> dict[str, torch.Tensor]:
    """The file's own tensors by their own names, in float64."""
    file = open_tensors(source.path, source.answers["weights"])
    return {name: to_tensor(file.read(name), torch.float64) for name in file.specs}


def as_named(source: Source, model: nn.Module, prefix: str = "") -> Callable[[Path], None]:
    """Saves a model whose names are the file's, behind a prefix that those have; with the config beside the file."""

    def save(folder: Path) -> None:
        state = {prefix + name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
        save_file(state, folder / WEIGHTS)
        for name in ("config.json", "open_clip_config.json"):
            if said := beside(source, name):
                (folder / name).write_text(json.dumps(said), encoding="utf-8")

    return save


def beside(source: Source, name: str) -> dict[str, Any]:
    """A JSON file beside the weights; empty where there is none."""
    path = find_weights(source.path).parent / name
    return read_json(path) if path.is_file() else {}


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {' '.join(' '.join(lines[:2]).split())[:300]}"
