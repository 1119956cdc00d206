"""timm's classes: VisionTransformer with its options, VisionTransformerDistilled, Eva."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from parity_tests.families.base import Answer, Family, Saved, float_is_double
from parity_tests.pairs import nchw, randomise

SIZES = dict(img_size=40, patch_size=8, embed_dim=36, depth=3, num_heads=3, mlp_ratio=2.5, num_classes=11)
CONFIG = dict(image_size=(40, 40), patch_size=(8, 8), dim=36, depth=3, num_heads=3, mlp_dim=90, num_classes=11)


def answer(model: torch.nn.Module) -> Answer:
    """The model in float64."""
    model = model.double().eval()

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad(), float_is_double():
            return model(nchw(images)).numpy()

    return run


def saver(architecture: str, **options: Any) -> Callable[[Path], Saved]:
    """Saves an architecture of timm's as its hub does: config.json and model.safetensors."""

    def save(folder: Path) -> Saved:
        model = timm.create_model(architecture, **options)
        randomise(model, seed=1)
        timm.models.save_for_hf(model, str(folder), safe_serialization=True)
        resizing = timm.create_model(architecture, **options, dynamic_img_size=True)
        resizing.load_state_dict(model.state_dict())
        return Saved(folder, answer(model), answer(resizing))

    return save


def load(folder: Path) -> Answer:
    return answer(timm.create_model(f"local-dir:{folder}", pretrained=True))


FAMILIES = (
    Family(
        name="ViT",
        real="timm VisionTransformer",
        layout="timm:vit",
        save=saver("vit_base_patch16_224", **SIZES),
        load=load,
        config=CONFIG,
    ),
)
