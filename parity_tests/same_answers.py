"""Loads a run's checkpoint in PyTorch and in Flax and compares them on the whole test set.

    python -m parity_tests.same_answers runs/digits

Prints the largest logit difference beside what float32 itself loses against float64, and draws
RUN/attention.png. Exits with 1 when a prediction differs, or when Flax is further from float64 than
rounding explains.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parity_tests.compare import rms
from parity_tests.tolerances import NOISE_RATIO
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError

NUM_DRAWN = 8


@dataclass(frozen=True)
class Answers:
    """Logits (N, K) of one checkpoint on one test set, and how to picture them."""

    torch: np.ndarray  # float32
    flax: np.ndarray  # float32
    exact: np.ndarray  # PyTorch in float64
    labels: np.ndarray  # (N,)
    attention: np.ndarray  # (NUM_DRAWN, rows, columns), of the last block

    @property
    def different(self) -> int:
        """How many images the two frameworks put into different classes."""
        return int((self.torch.argmax(-1) != self.flax.argmax(-1)).sum())

    @property
    def noise_ratio(self) -> float:
        """Flax's distance from float64 over PyTorch's, in root mean square: about 1 for one function."""
        return rms(self.flax - self.exact) / rms(self.torch - self.exact)

    @property
    def agree(self) -> bool:
        """One function, as far as float32 can tell."""
        return not self.different and self.noise_ratio <= NOISE_RATIO

    @property
    def accuracy(self) -> float:
        return float((self.torch.argmax(-1) == self.labels).mean())


def compare(checkpoint: Path, images: np.ndarray, labels: np.ndarray) -> Answers:
    """Runs the checkpoint in both frameworks.

    Args:
        images: (N, H, W, C) uint8.
        labels: (N,).
    """
    import jax
    import torch

    import vit_flax
    import vit_torch
    from vit_tools.attention.maps import attention_map

    flax, ours = vit_flax.ViT.from_pretrained(checkpoint), vit_torch.ViT.from_pretrained(checkpoint)
    check_fits(checkpoint, ours.config, images, labels)
    if ours.preprocess is None:
        raise CheckpointError(f"{checkpoint} doesn't say how its images are normalised")
    x = ours.preprocess.normalise(images)
    name = f"blocks.{ours.config.depth - 1}.attn.weights"
    with torch.no_grad():
        nchw = torch.tensor(x).permute(0, 3, 1, 2).contiguous()
        logits, (_, found) = ours(nchw), ours(nchw[:NUM_DRAWN], (name,))
        exact = ours.double()(nchw.double())
    maps = attention_map(found[name].numpy(), ours.config)
    with jax.default_matmul_precision("highest"):  # accelerators would round float32 products to less
        return Answers(logits.numpy(), np.asarray(flax(jax.numpy.asarray(x))), exact.numpy(), labels, maps)


def check_fits(checkpoint: Path, config: ViTConfig, images: np.ndarray, labels: np.ndarray) -> None:
    """Raises CheckpointError unless the model takes these images and has a class for every label."""
    _, *size, channels = images.shape
    wrong = []
    if config.image_hw != tuple(size) or config.in_channels != channels:
        wanted = (*config.image_hw, config.in_channels)
        wrong.append(f"it takes images of {wanted}, the test images are {(*size, channels)}")
    if config.num_classes <= labels.max():
        wrong.append(f"it has {config.num_classes} classes, the labels go up to {labels.max()}")
    if wrong:
        raise CheckpointError(f"{checkpoint} is no model of the digits: {'; '.join(wrong)}")


def report(answers: Answers) -> str:
    """What a reader wants to know, in a few lines."""
    count = len(answers.labels)
    between = np.abs(answers.torch - answers.flax).max()
    noise = {side: np.abs(getattr(answers, side) - answers.exact).max() for side in ("torch", "flax")}
    return (
        f"predictions that are the same: {count - answers.different} of {count} "
        f"(accuracy {answers.accuracy:.2%})\n"
        f"largest logit difference between the two: {between:.1e}, of logits up to {np.abs(answers.exact).max():.1f}\n"
        f"largest difference from float64: PyTorch {noise['torch']:.1e}, Flax {noise['flax']:.1e} "
        f"(root mean square: {answers.noise_ratio:.2f} times PyTorch's)"
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="same_answers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="a folder that vit-train made")
    run = parser.parse_args().run
    try:
        sys.exit(same_answers(run))
    except (CheckpointError, OSError) as error:
        print(f"same_answers: error: {error}", file=sys.stderr)
        sys.exit(2)


def same_answers(run: Path) -> int:
    """Prints the report and draws the maps; 1 when a prediction differs."""
    from train.input.data import open_data
    from train.recipes import RECIPES
    from vit_tools.attention.picture import draw_pairs

    test = open_data(RECIPES["digits"]()).whole_test
    answers = compare(run / "checkpoint", test.images, test.labels)
    print(report(answers))
    predicted = answers.torch.argmax(-1)
    titles = [f"a {label}, read as {p}" for label, p in zip(test.labels, predicted[:NUM_DRAWN], strict=False)]
    draw_pairs(test.images[:NUM_DRAWN], answers.attention, titles, run / "attention.png")
    if not answers.agree:
        print("The two frameworks disagree by more than rounding: this is not one function.", file=sys.stderr)
        return 1
    print(next_steps(run))
    return 0


def next_steps(run: Path) -> str:
    """Where everything is, and what to try next."""
    return f"""
{run}/checkpoint/     the model: config.json and model.safetensors, one file for both frameworks
{run}/metrics.jsonl   every logged step
{run}/curves.png      loss, accuracy and learning rate
{run}/attention.png   what the last block's class token looks at
{run}/config.json     the run's settings

Next:
  .venv/bin/vit-convert inspect {run}/checkpoint
  .venv/bin/vit-convert {run}/checkpoint {run}/transformers --to transformers
  .venv/bin/vit-train digits --help"""


if __name__ == "__main__":
    main()
