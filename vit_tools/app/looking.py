"""What the page shows of one photo: computed once in both frameworks, drawn again for each layer and head."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess
from vit_tools.attention.maps import layers_that_read, read, wanted
from vit_tools.attention.on_image import on_image
from vit_tools.attention.picture import Seen, blend, seen
from vit_tools.images import as_seen
from vit_tools.model import Array, Framework, Model
from vit_tools.predict.answers import answer

TOP = 5


class NotFinite(ValueError):
    """What a model said of a photo is no number, so that there is nothing to show."""


@dataclass(frozen=True)
class Looked:
    """A photo, and what came of it in one framework."""

    photo: Seen  # as people see it, small, whatever the photo is: heat is drawn on it at every move of a slider
    outputs: dict[Framework, Array]  # logits (K,), or features
    maps: npt.NDArray[np.float64]  # (layers, H, rows, columns), of the first framework: `layer_maps`


def look(picture: Image.Image, models: dict[Framework, Model]) -> Looked:
    """The photo, upright, through each model; attention by the first of them.

    Raises:
        NotFinite: a model's output is NaN or infinite.
    """
    first = next(iter(models.values()))
    x = first.preprocess(picture)[None]
    outputs: dict[Framework, Array] = {}
    maps = None
    for framework, model in models.items():
        names = wanted(model.config) if model is first else ()
        output, found = model(x, names)
        if not np.isfinite(output).all():
            raise NotFinite(f"the output in {framework} is NaN or infinite")
        outputs[framework] = output[0]
        if names:
            maps = layer_maps(found, model.config, model.preprocess)
    assert maps is not None
    return Looked(seen(as_seen(picture, first.preprocess), ""), outputs, maps)


def layer_maps(found: dict[str, Array], config: ViTConfig, preprocess: Preprocess) -> npt.NDArray[np.float64]:
    """(layers, H, rows, columns): in each block, what the tokens read of each patch that the model pools; after the
    blocks, what attention pooling reads, in a model that has it."""
    grid = preprocess_grid(config, preprocess)
    layers = [read(found[name], config, grid)[0][0] for name in layers_that_read(config)]
    return np.stack(layers).reshape(num_layers(config), config.num_heads, *grid)


def num_layers(config: ViTConfig) -> int:
    """That have attention: the blocks, and attention pooling."""
    return len(layers_that_read(config))


def preprocess_grid(config: ViTConfig, preprocess: Preprocess) -> tuple[int, int]:
    """(rows, columns) of patches of the images that the model is given."""
    (height, width), (h, w) = preprocess.crop, config.patch_hw
    return height // h, width // w


def heat(looked: Looked, preprocess: Preprocess, layer: int, head: int | None) -> npt.NDArray[np.uint8]:
    """The photo as it is kept under the attention of a layer's head (all averaged: None), (height, width, 3)."""
    maps = looked.maps[layer].mean(0) if head is None else looked.maps[layer, head]
    spread = on_image(maps, preprocess, looked.photo.size, looked.photo.shown)
    return np.round(blend(looked.photo.pixels, spread, float(maps.max()) or 1.0) * 255).astype(np.uint8)


def labels_of(looked: Looked, framework: Framework, model: Model) -> dict[str, float]:
    """Label -> probability, the best TOP, `told_apart`; none for a model without them."""
    if not model.has_labels:
        return {}
    found = answer("", looked.outputs[framework], told_apart(model.label_names), TOP)
    return dict(zip(found.labels, found.probabilities, strict=True))


def told_apart(labels: Sequence[str]) -> list[str]:
    """The labels, those that several classes have with the class's number: ImageNet's two cranes are "crane (134)" and
    "crane (517)". The page shows one line a label."""
    times = Counter(labels)
    return [label if times[label] == 1 else f"{label} ({i})" for i, label in enumerate(labels)]


def difference(looked: Looked, has_labels: bool) -> str:
    """How far the frameworks' outputs are apart, in words; of a model with labels, whether the best is the same."""
    a, b = looked.outputs.values()
    largest, of = float(np.abs(a - b).max()), float(np.abs(a).max())
    apart = f"largest difference of an output: {largest:.1e}, of outputs up to {of:.2f}"
    if not has_labels:
        return apart
    return f"{apart}; {'the same label' if a.argmax() == b.argmax() else 'another label'}"
