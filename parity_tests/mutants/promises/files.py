"""Other repositories' own files give in Flax what their code gave: golden files (parity_tests/golden), in float64."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import vit_flax
from parity_tests.compare import gap
from parity_tests.golden.case import key, model_input
from parity_tests.mutants.mutant import ROOT
from parity_tests.mutants.promises.base import Measured, Promise, apart
from parity_tests.mutants.promises.compiled import Compiled
from parity_tests.mutants.promises.model import initial
from parity_tests.pairs import images_for, run_flax, run_torch
from parity_tests.tolerances import FORWARD
from vit_convert.config import ViTConfig
from vit_convert.layouts import LAYOUTS

GOLDEN = ROOT / "parity_tests" / "golden"


@dataclass(frozen=True)
class Golden:
    """A golden case: its checkpoint, its record, its answers."""

    case: str  # folder and name
    layout: str
    given: tuple[str, ...] = ()  # config fields that the file doesn't tell

    @property
    def promise(self) -> Promise:
        return Promise(self.measure, self.conventional, fixed=True)

    @property
    def facts(self) -> dict[str, Any]:
        return json.loads((GOLDEN / f"{self.case}.json").read_text(encoding="utf-8"))

    @property
    def config(self) -> ViTConfig:
        return ViTConfig(**self.facts["config"])

    def load(self, path: Path, **options: Any) -> vit_flax.ViT:
        overrides = {name: getattr(self.config, name) for name in self.given}
        return vit_flax.ViT.from_pretrained(path, overrides=overrides, dynamic_size=True, **options)

    def measure(self, seed: int) -> Iterator[Measured]:
        facts = self.facts
        model = self.load((GOLDEN / self.case).parent / facts["file"], param_dtype=jnp.float64)
        with np.load(GOLDEN / f"{self.case}.expected.npz") as arrays:
            for size in facts["sizes"]:
                found = run_flax(model, model_input(arrays[key("images", size)]))["output"]
                yield Measured(key("output", size), gap(found, arrays[key("output", size)]), FORWARD)

    def conventional(self, folder: Path) -> float:
        """The same kind of file at initial values, written and run by the true code."""
        here = folder / self.case
        found = Compiled().forward(self.load(original(here, self.layout)), np.load(here / "images.npy"))["output"]
        return apart(found, np.load(here / "output.npy"))

    def write_original(self, folder: Path) -> None:
        """A file of this layout at initial values, images, and what PyTorch makes of them in float32."""
        here, model = folder / self.case, initial(self.config)
        here.mkdir(parents=True)
        model.save_pretrained(here / "checkpoint", layout=self.layout)
        images = images_for(self.config)
        np.save(here / "images.npy", images)
        np.save(here / "output.npy", run_torch(model, images)["output"])


def original(here: Path, layout: str) -> Path:
    """What `write_original` wrote as its family has it: with transformers' config.json, else the weights alone."""
    checkpoint = here / "checkpoint"
    if layout.startswith("transformers:"):
        return checkpoint
    alone = here / "alone" / LAYOUTS[layout].weights_file
    if not alone.exists():
        alone.parent.mkdir()
        (checkpoint / alone.name).rename(alone)
    return alone


CASES = {
    "vit_jax": Golden("vision_transformer/token_published", "vit_jax"),
    "big_vision, attention pooling": Golden("big_vision/map", "big_vision"),
    "big_vision, fixed positions": Golden("big_vision/gap_sincos2d_rep", "big_vision", ("image_size",)),
    "dinov2": Golden("dinov2/plain", "dinov2", ("num_heads",)),
    "dinov2, registers": Golden("dinov2/registers", "dinov2", ("num_heads",)),
    "dinov3": Golden("dinov3/mlp", "dinov3", ("image_size",)),
    "dinov3, swiglu": Golden("dinov3/swiglu", "dinov3", ("image_size",)),
    "transformers vit": Golden("transformers_4/vit", "transformers:vit"),
    "transformers dinov2": Golden("transformers_4/dinov2", "transformers:dinov2"),
    "transformers siglip": Golden("transformers_4/siglip_vision", "transformers:siglip_vision_model"),
    "transformers clip": Golden("transformers_4/clip_vision", "transformers:clip_vision_model"),
}
PROMISES = {f"file: {name}": golden.promise for name, golden in CASES.items()}


def write_originals(folder: Path) -> None:
    """What the conventional tests of files start from. By the true code."""
    for golden in CASES.values():
        golden.write_original(folder)
        original(folder / golden.case, golden.layout)
