"""Each guide in docs/guides runs as it is written: its commands and its Python, in order, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import vit_torch
from parity_tests.datasets import encoded, picture
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess

ROOT = Path(__file__).parent.parent
GUIDES = sorted(path.stem for path in (ROOT / "docs" / "guides").glob("*.md"))
COMMANDS = {
    "vit-train": "train",
    "vit-convert": "vit_convert",
    "vit-predict": "vit_tools.predict.command",
    "vit-export": "vit_tools.export.command",
}
SMALL = ViTConfig(image_size=32, patch_size=8, dim=32, depth=2, num_heads=2, mlp_dim=64, num_classes=5, norm_eps=1e-6)


def blocks(guide: str) -> list[tuple[str, str]]:
    """(language, text) of each block that is to be run."""
    text = (ROOT / "docs" / "guides" / f"{guide}.md").read_text(encoding="utf-8")
    return [
        (kind, code) for kind, code in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL) if kind in ("sh", "python")
    ]


def set_up(folder: Path) -> dict[str, str]:
    """What the guides take for granted: photos/, checkpoints to start from, the commands. Returns the environment."""
    for split, count in (("train", 8), ("test", 2)):
        for i in range(count):
            for offset, name in enumerate(("cat", "dog")):
                at = folder / "photos" / split / name / f"{i:04}.jpg"
                at.parent.mkdir(parents=True, exist_ok=True)
                at.write_bytes(encoded(picture(2 * i + offset, (60, 48))))
    lay_down(folder / "photos" / "test" / "cat" / "0000.jpg")
    vit_torch.ViT(SMALL, generator=torch.Generator().manual_seed(0)).save_pretrained(
        folder / "start", preprocess=Preprocess(resize=(36, 36), crop=(32, 32))
    )
    save_dinov2(folder / "dinov2")
    (folder / "bin").mkdir()
    for command, module in COMMANDS.items():
        script = folder / "bin" / command
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        script.chmod(0o755)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "JAX_ENABLE_X64": "0"}


def lay_down(photo: Path) -> None:
    """As a phone that was held upright writes it: the pixels lie on their side, and the file says so."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be seen, turn clockwise
    with Image.open(photo) as upright:
        upright.transpose(Image.Transpose.ROTATE_90).save(photo, quality=95, exif=exif)


def save_dinov2(path: Path) -> None:
    """A small DINOv2 with random weights, as transformers saves it."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14, mlp_ratio=2
    )  # fmt: skip
    Dinov2Model(config).save_pretrained(path)
    BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}).save_pretrained(path)


def test_there_are_guides_and_each_has_something_to_run():
    assert {"own-images", "dinov2", "add-a-layout", "step-by-step"} <= set(GUIDES)
    assert all(blocks(guide) for guide in GUIDES)


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES)
def test_the_guide_runs(guide: str, tmp_path: Path):
    env = set_up(tmp_path)
    given = blocks(guide)
    script = ["set -e"]
    python = ["from parity_tests.peers import import_torchvision", "import_torchvision()"]  # as conftest.py needs it
    for number, (kind, code) in enumerate(given):
        if kind == "sh":
            script.append(code)
        else:  # a guide's Python is one session: each block goes on from those before it
            python.append(code)
            (tmp_path / f"{number}.py").write_text("\n".join(python))
            script.append(f'"{sys.executable}" {number}.py')
    done = subprocess.run(["bash", "-c", "\n".join(script)], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
