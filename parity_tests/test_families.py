"""Every family: its own files, with random weights in its own class, move both ways and stay the same function."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vit_flax
import vit_torch
from parity_tests.compare import gap
from parity_tests.families import FAMILIES, Family, Saved
from parity_tests.pairs import run_flax, run_torch
from vit_convert.checkpoint import open_checkpoint, save_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.files import open_tensors

FRAMEWORKS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "torch": (vit_torch.ViT, run_torch, {"dtype": torch.float64}),
    "flax": (vit_flax.ViT, run_flax, {"param_dtype": np.float64}),
}
frameworks = pytest.mark.parametrize("framework", FRAMEWORKS)


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: f"{family.layout} {family.name}")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Family, Saved]:
    """A family and its checkpoint, made once for all the promises."""
    family: Family = request.param
    return family, family.save(tmp_path_factory.mktemp("family"))


def test_it_is_recognised_and_its_config_is_read(case):
    family, saved = case
    found = open_checkpoint(saved.path, overrides=family.given)
    assert found.layout == family.layout
    expected = ViTConfig(**{**family.config, **family.given})
    assert found.config.to_dict() == expected.to_dict()


@frameworks
def test_its_answers_are_ours(case, framework):
    family, saved = case
    cls, run, double = FRAMEWORKS[framework]
    ours = cls.from_pretrained(saved.path, overrides=family.given, **double)
    images = images_for(family, saved, ours.config)
    assert gap(run(ours, images)["output"], saved.answer(images)) < family.tolerance


@pytest.mark.slow
@pytest.mark.parametrize(
    ("framework", "loaded"),
    [
        ("torch", "for that size"),  # vit_convert's step
        ("torch", "for any size"),
        ("flax", "for any size"),
    ],
)
def test_at_another_size_its_answers_are_ours(case, framework, loaded):
    """Loaded for that size or for any: both resize by the family's own rule."""
    family, saved = case
    if saved.resized is None:
        pytest.skip("the class takes one size only, or (FlaxDinov2) resizes by another rule than its PyTorch original")
    cls, run, double = FRAMEWORKS[framework]
    how: Any = {"image_size": family.second_size} if loaded == "for that size" else {"dynamic_size": True}
    ours = cls.from_pretrained(saved.path, overrides=family.given, **how, **double)
    images = saved.resized_images
    if images is None:
        images = family.images(family.second_size, ours.config.in_channels)
    assert gap(run(ours, images)["output"], saved.resized(images)) < family.tolerance


@frameworks
def test_what_is_written_back_is_the_family_s_own_again(case, framework, tmp_path):
    """Its class gives the same answers with it, and so do we: in PyTorch, whichever framework wrote it."""
    family, saved = case
    loaded = FRAMEWORKS[framework][0].from_pretrained(saved.path, overrides=family.given)
    loaded.save_pretrained(tmp_path / "back", layout=family.to or family.layout)
    images = images_for(family, saved, loaded.config)
    if family.load is not None:
        assert gap(family.load(tmp_path / "back")(images), saved.answer(images)) < family.tolerance
    again = vit_torch.ViT.from_pretrained(tmp_path / "back", dtype=torch.float64)
    assert gap(run_torch(again, images)["output"], saved.answer(images)) < family.tolerance


def test_tensors_are_equal_bit_for_bit_after_a_round_trip(case, tmp_path):
    """As the file's own names and arrays; where those have another form than is written, as the hub's."""
    family, saved = case
    found = open_checkpoint(saved.path, overrides=family.given)
    layout = family.to or family.layout
    save_checkpoint(tmp_path / "back", found.config, found.tensors(), dtypes=found.dtypes, layout=layout)
    if family.renamed:
        before, after = dict(found.tensors()), dict(open_checkpoint(tmp_path / "back").tensors())
    else:
        before, after = own(family, saved.path), own(family, tmp_path / "back")
    assert {name: array.shape for name, array in after.items()} == {n: array.shape for n, array in before.items()}
    assert {name: array.dtype for name, array in after.items()} == {n: array.dtype for n, array in before.items()}
    assert not [name for name, array in before.items() if array.tobytes() != after[name].tobytes()]


def images_for(family: Family, saved: Saved, config: ViTConfig) -> np.ndarray:
    return family.images(config.image_hw, config.in_channels) if saved.images is None else saved.images


def own(family: Family, path: Path) -> dict[str, np.ndarray]:
    """The file's tensors, but for those that stand beside the model."""
    file = open_tensors(path)
    return {name: file.read(name) for name in file.specs if not (family.beside and name.startswith(family.beside))}
