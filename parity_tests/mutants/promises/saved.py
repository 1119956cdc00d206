"""A model that a layout holds only after a one-way change is the same function there, in float64."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import vit_torch
from parity_tests.compare import gap
from parity_tests.mutants.promises.base import Measured, Promise, apart
from parity_tests.mutants.promises.model import initial
from parity_tests.pairs import images_for, randomise, run_torch
from parity_tests.tolerances import FORWARD
from vit_convert.config import ViTConfig

SQUARE = ViTConfig(image_size=28, patch_size=7, dim=40, depth=2, num_heads=5, mlp_dim=52, num_classes=11)


@dataclass(frozen=True)
class Saved:
    """A config, and a layout that has it in another form."""

    config: ViTConfig
    layout: str

    @property
    def promise(self) -> Promise:
        return Promise(self.measure, self.conventional)

    def measure(self, seed: int) -> Iterator[Measured]:
        model = vit_torch.ViT(self.config).double()
        randomise(model, seed)
        images = images_for(self.config, seed=seed)
        found = run_torch(self.there_and_back(model), images)["output"]
        yield Measured("output", gap(found, run_torch(model, images)["output"]), FORWARD)

    def there_and_back(self, model: vit_torch.ViT) -> vit_torch.ViT:
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(Path(folder) / "checkpoint", layout=self.layout)
            dtype = next(model.parameters()).dtype
            return vit_torch.ViT.from_pretrained(Path(folder) / "checkpoint", dtype=dtype)

    def conventional(self, folder: Path) -> float:
        model = initial(self.config)
        images = images_for(self.config).astype("float32")
        found = run_torch(self.there_and_back(model), images)["output"]
        return apart(found, run_torch(model, images)["output"])


CASES = {
    "q and v biases as transformers": Saved(SQUARE.replace(qkv_bias="qv"), "transformers"),
    "no class position as transformers": Saved(SQUARE.replace(pos_prefix="none"), "transformers"),
    "class position as big_vision": Saved(SQUARE.replace(act="gelu_tanh"), "big_vision"),
}
PROMISES = {f"saved: {name}": case.promise for name, case in CASES.items()}
