"""vit-convert in the test's own process, and a small checkpoint for it: what the tests of the command share."""

from pathlib import Path

import pytest

from parity_tests.strategies import random_tensors
from vit_convert import __main__ as cli
from vit_convert.checkpoint import save_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess

CONFIG = ViTConfig(
    image_size=(6, 9), patch_size=(2, 3), dim=24, depth=2, num_heads=3, mlp_dim=40, num_classes=3, pos_resize="bicubic"
)
TENSORS = random_tensors(CONFIG)
ASKED = ("image_size=6x9", "num_heads=3", "pos_resize=bicubic", "rope=none", "norm_eps=1e-6", "act=gelu", "pool=class")


def save_native(folder: Path) -> Path:
    """The checkpoint, with preprocessing and labels: FOLDER/native."""
    preprocess = Preprocess(resize=(6, 9), crop=(6, 9), mode="squash")
    labels = ("cat", "dog", "owl")
    save_checkpoint(folder / "native", CONFIG, TENSORS.items(), preprocess=preprocess, labels=labels)
    return folder / "native"


def run(*arguments: str | Path) -> int:
    return cli.main([str(argument) for argument in arguments])


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def fails(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one message of a command that fails as a user's mistake."""
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("vit-convert: error: ")
    assert "Traceback" not in err
    return err
