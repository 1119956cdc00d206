"""Published weights give their own class's answers in both frameworks: `make test-published`, which needs a network."""

import hashlib
import json
import platform
import socket
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

import vit_flax
import vit_torch
from parity_tests.compare import gap
from parity_tests.families import FAMILIES
from parity_tests.families_table import PUBLISHED as RECORD
from parity_tests.golden.case import key, model_input
from parity_tests.pairs import nchw, run_flax, run_torch
from parity_tests.photographs import photograph
from parity_tests.published import PUBLISHED, UNPUBLISHED, Published, meta_model
from parity_tests.tolerances import FORWARD
from vit_convert.checkpoint import Checkpoint, open_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess
from vit_convert.presets import PRESETS

GOLDEN = Path(__file__).parent / "golden"


@cache
def network() -> bool:
    try:
        socket.create_connection(("huggingface.co", 443), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.published
@pytest.mark.filterwarnings("default")  # other people's downloads
@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.name)
def test_published_weights_give_their_own_class_s_answers(published: Published) -> None:
    if not network():
        pytest.skip("no network")
    path, answer = published.real()
    found = open_checkpoint(path, preset=published.preset)
    assert found.layout == published.layout
    images = photograph_for(found)
    expected, gaps = answer(images), {}
    options: dict[str, Any] = dict(preset=published.preset)
    ours = vit_torch.ViT.from_pretrained(path, **options, dtype=torch.float64)
    gaps["torch"] = gap(run_torch(ours, images)["output"], expected)
    del ours
    flax = vit_flax.ViT.from_pretrained(path, **options, param_dtype=np.float64)
    gaps["flax"] = gap(run_flax(flax, images)["output"], expected)
    assert max(gaps.values()) < published.tolerance
    record(published, found, gaps)


def photograph_for(found: Checkpoint) -> np.ndarray:
    """(1, H, W, C) float64: a photograph, as the checkpoint's own preprocessing makes it where that is known."""
    size = found.config.image_hw
    preprocess = found.preprocess or Preprocess(resize=size, crop=size)
    return preprocess(photograph("china"))[None].astype(np.float64)


def record(published: Published, found: Checkpoint, gaps: dict[str, float]) -> None:
    """Keeps what was seen, for the README's table."""
    seen = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    seen[published.name] = {
        "layout": found.layout,
        "family": published.family,
        "sha256": digest(found),
        "gaps": gaps,
        "tolerance": published.tolerance,
        "versions": {name: version(name) for name in ("torch", "jax", "flax", "timm", "transformers")},
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }
    RECORD.write_text(json.dumps(seen, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def digest(found: Checkpoint) -> str:
    """sha256 over the hub's tensors, name by name: the same whatever file they came in."""
    sha = hashlib.sha256()
    for name, array in sorted(found.tensors(), key=lambda pair: pair[0]):
        sha.update(name.encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def test_every_name_is_there_once() -> None:
    names = [published.name for published in PUBLISHED]
    assert len(set(names)) == len(names)


def test_every_example_is_one_of_a_family() -> None:
    families = [(family.layout, family.name) for family in FAMILIES]
    assert len(set(families)) == len(families)
    assert {(published.layout, published.family) for published in PUBLISHED} <= set(families)


def test_every_layout_has_an_example_or_a_reason_for_having_none() -> None:
    examples = {published.layout for published in PUBLISHED}
    assert examples.isdisjoint(UNPUBLISHED)
    assert examples | set(UNPUBLISHED) == {family.layout for family in FAMILIES}


def test_timm_has_the_names_and_each_is_an_architecture_that_is_read() -> None:
    names = [
        published.name.partition("/")[2] for published in PUBLISHED if published.layout in ("timm:vit", "timm:eva")
    ]
    names = [name for name in names if "." in name]  # not of Meta's repositories, whose names are timm's
    assert set(names) <= set(timm.list_pretrained())
    assert {name.partition(".")[0] for name in names} <= set(PRESETS)


@pytest.mark.parametrize("case", ["deit/plain", "deit/deit3", "mae/pretrain_encoder"])
def test_files_of_meta_s_repositories_give_their_own_answers_in_timm_s_class(case: str) -> None:
    """Of golden files, which the repositories' own classes wrote: so the class stands for them."""
    record = json.loads((GOLDEN / f"{case}.json").read_text(encoding="utf-8"))
    expected = np.load(GOLDEN / f"{case}.expected.npz")
    config, size = ViTConfig(**record["config"]), tuple(record["sizes"][0])
    architecture = "deit3_base_patch16_224" if config.layer_scale else "vit_base_patch16_224"
    model = meta_model(
        GOLDEN / case.partition("/")[0] / record["file"],
        architecture,
        img_size=config.image_hw,
        patch_size=config.patch_hw,
        embed_dim=config.dim,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_dim / config.dim,
        num_classes=config.num_classes,
    )
    with torch.no_grad():
        answer = model(nchw(model_input(expected[key("images", size)]))).numpy()
    assert gap(answer, expected[key("output", size)]) < FORWARD
