"""Published weights give their own class's answers in both frameworks: `make test-published`, which needs a network."""

import hashlib
import json
import platform
import socket
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
import torch

import vit_flax
import vit_torch
from parity_tests.compare import gap
from parity_tests.families_table import PUBLISHED as RECORD
from parity_tests.pairs import run_flax, run_torch
from parity_tests.photographs import photograph
from parity_tests.published import PUBLISHED, Published
from vit_convert.checkpoint import Checkpoint, open_checkpoint
from vit_convert.preprocess import Preprocess


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
    found = open_checkpoint(path, preset=published.preset, overrides=published.given)
    assert found.layout == published.layout
    images = photograph_for(found)
    expected, gaps = answer(images), {}
    options: dict[str, Any] = dict(preset=published.preset, overrides=published.given)
    ours = vit_torch.ViT.from_pretrained(path, **options, dtype=torch.float64)
    gaps["torch"] = gap(run_torch(ours, images)["output"], expected)
    del ours
    flax = vit_flax.ViT.from_pretrained(path, **options, param_dtype=np.float64)
    gaps["flax"] = gap(run_flax(flax, images)["output"], expected)
    record(published, found, gaps)
    assert max(gaps.values()) < published.tolerance


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
