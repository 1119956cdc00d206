"""What an export costs in accuracy: every kind and dtype of vit-export on a whole test set, beside the float32 model.

python -m benchmarks.exports runs/digits/checkpoint --data digits
python -m benchmarks.exports runs/fashion_mnist/checkpoint --data fashion_mnist --data-dir DIR
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.train_step import machine
from train.config import DataConfig
from train.input.load import evaluated
from train.input.sources import open_source
from vit_convert.preprocess import Preprocess
from vit_tools.export.command import main as export
from vit_tools.export.kinds import KINDS
from vit_tools.model import load

BATCH = 250


def batches(
    name: str, folder: Path | None, split: str, preprocess: Preprocess
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(preprocessed images (B, H, W, C), labels (B,)) of a whole split."""
    source = open_source(DataConfig(name=name, dir=folder, test_split=split), split)
    pixels = evaluated(preprocess)
    for at in range(0, len(source), BATCH):
        examples = source.examples(range(at, min(at + BATCH, len(source))))
        images = np.stack([preprocess.normalise(pixels(example, 0)) for example in examples])
        yield images, np.array([example.label for example in examples])


def judge(run: Callable[[np.ndarray], np.ndarray], given: list[tuple[np.ndarray, np.ndarray]]) -> tuple[int, float]:
    """(right answers, seconds)."""
    begun = time.perf_counter()
    right = sum(int((run(images).argmax(-1) == labels).sum()) for images, labels in given)
    return right, time.perf_counter() - begun


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--data", required=True, help="digits, a prepared TFDS dataset, or folder:PATH")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--split", default="test")
    a = parser.parse_args()
    model = load(a.checkpoint)
    given = list(batches(a.data, a.data_dir, a.split, model.preprocess))
    count = sum(len(labels) for _, labels in given)
    right, seconds = judge(lambda images: model(images)[0], given)
    print(f"{machine()}\n\n{a.checkpoint} on {a.data}, {count:,} images\n")
    print("| export | dtype | MB | accuracy | change, points | images/s |\n|---|---|---|---|---|---|")
    print(f"| the model, PyTorch | float32 | - | {right / count:.2%} | - | {count / seconds:,.0f} |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for suffix, kind in KINDS.items():
            for dtype in kind.dtypes:
                path = Path(folder) / f"{dtype}{suffix}"
                if export([a.checkpoint, str(path), "--dtype", dtype]):
                    raise SystemExit(1)
                found, seconds = judge(kind.load(path), given)
                change = 100 * (found - right) / count
                size = path.stat().st_size / 1e6
                speed = count / seconds
                print(f"| {kind.what} | {dtype} | {size:.2f} | {found / count:.2%} | {change:+.2f} | {speed:,.0f} |")


if __name__ == "__main__":
    main()
