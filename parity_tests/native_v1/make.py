"""Writes the kept checkpoints of version 1 and their answers: run once, when the version was made, and never again."""

from pathlib import Path

import numpy as np

import vit_torch
from parity_tests.pairs import randomise, run_torch
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess

HERE = Path(__file__).parent
PLAIN = ViTConfig(image_size=8, patch_size=4, dim=8, depth=1, num_heads=1, mlp_dim=12, num_classes=3)
ROTARY = PLAIN.replace(
    pos_embed="none", rope="dinov3", rope_theta=100, num_registers=2, mlp="swiglu", act="silu", layer_scale=True
)
CASES = {
    "plain": (PLAIN, "native"),
    "plain_flax": (PLAIN, "flax"),
    "rotary": (ROTARY, "native"),
}
LABELS = ("cat", "dog", "übrig")
PREPROCESS = Preprocess(resize=(10, 10), crop=(8, 8), mean=(0.4, 0.3, 0.2), std=(0.3, 0.4, 0.5))


def images(size: tuple[int, int] = (8, 8)) -> np.ndarray:
    """(2, H, W, 3) float64, by a formula: no generator's stream has to stay what it was."""
    return np.sin(np.arange(2 * size[0] * size[1] * 3, dtype=np.float64)).reshape(2, *size, 3)


def main() -> None:
    for name, (config, layout) in CASES.items():
        model = vit_torch.ViT(config)
        randomise(model, seed=5)
        model.save_pretrained(HERE / name, layout=layout, preprocess=PREPROCESS, labels=LABELS)
        np.save(HERE / name / "expected.npy", run_torch(model.double(), images())["output"])


if __name__ == "__main__":
    main()
