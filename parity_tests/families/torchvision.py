"""torchvision's VisionTransformer."""

import json
from pathlib import Path
from typing import Any

import torch

from parity_tests.families.base import Family, Saved
from parity_tests.families.originals import limited
from parity_tests.pairs import randomise
from parity_tests.real.base import Answer
from parity_tests.real.torchvision import answer, make, options_of
from vit_convert.config import ViTConfig
from vit_convert.files import open_tensors

SIZES: dict[str, Any] = dict(
    image_size=40, patch_size=8, num_layers=2, num_heads=3, hidden_dim=36, mlp_dim=90, num_classes=11
)
CONFIG: dict[str, Any] = dict(
    image_size=40, patch_size=8, depth=2, dim=36, mlp_dim=90, num_classes=11, pos_resize="bicubic_corners"
)
RESIZED = 56


def saver(older: bool, **options: Any) -> Any:
    """A .pth of the state dict, as torchvision publishes; `older` with the names that it had before 0.14."""

    def save(folder: Path) -> Saved:
        from torchvision.models.vision_transformer import interpolate_embeddings

        model = make(**SIZES, **options)
        randomise(model, seed=1)
        state = {name: tensor.float() for name, tensor in model.state_dict().items()}
        path = folder / "vit.pth"
        torch.save({renamed(name) if older else name: tensor for name, tensor in state.items()}, path)
        double: Any = {name: tensor.double() for name, tensor in state.items()}
        resized = make(
            interpolate_embeddings(RESIZED, SIZES["patch_size"], dict(double)),  # type: ignore[arg-type]
            **{**SIZES, **options, "image_size": RESIZED},
        )
        return Saved(path, answer(make(double, **SIZES, **options)), answer(resized))

    return save


def renamed(name: str) -> str:
    return name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2.")


def load(folder: Path) -> Answer:
    """The class with the sizes of our config.json: torchvision has no config file."""
    config = ViTConfig.from_dict(json.loads((folder / "config.json").read_text())["config"])
    file = open_tensors(folder)
    return answer(make({name: torch.tensor(file.read(name)).double() for name in file.specs}, **options_of(config)))


def family(name: str, older: bool = False, **options: Any) -> Family:
    return Family(
        name=name,
        real="torchvision VisionTransformer",
        layout="torchvision",
        save=saver(older, **options),
        load=load,
        config=CONFIG | {"pre_logits": options.get("representation_size", 0)},
        given={"num_heads": 3},
        second_size=(RESIZED, RESIZED),
        renamed=older,
    )


FAMILIES = (
    family("ViT"),
    family("names before 0.14", older=True),
    family("representation layer", representation_size=13),
)
HELD = {
    "torchvision": limited("torchvision", {"pre_logits": (0,)}, {"pre_logits": (13,), "num_classes": (14, 15)}),
}
