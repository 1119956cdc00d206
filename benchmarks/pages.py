"""Training on a CPU with memory in large pages and without: `vit-train` in both ways by turns, images a second.

    python -m benchmarks.pages fashion_mnist --data.dir DIR --model.patch-size 4 --batch-size 64

Arguments are vit-train's. XLA asks for the temporary memory of each step anew, hundreds of megabytes, and the kernel
gives it in zeroed pages of 4 kB, each at the first touch; glibc asks for pages of 2 MB where GLIBC_TUNABLES says so
(glibc 2.35 or newer; /sys/kernel/mm/transparent_hugepage/enabled has to say always or madvise).
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.train_step import machine

LARGE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
ROUNDS, STEPS = 4, 100


def rate(arguments: list[str], environment: dict[str, str]) -> float:
    """Images a second of a short run: the median of its windows, the first left out."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "train", *arguments, "--workdir", f"{folder}/run", "--steps", str(STEPS)]
        subprocess.run(command, env=os.environ | environment, check=True, capture_output=True)
        rows = map(json.loads, Path(folder, "run", "metrics.jsonl").read_text().splitlines())
        return median([row["images_per_second"] for row in rows if "images_per_second" in row][1:])


def main() -> None:
    """The command."""
    arguments = sys.argv[1:]
    print(f"{machine()}, vit-train {' '.join(arguments)}, {ROUNDS} rounds by turns of {STEPS} steps", flush=True)
    pairs = []
    for turn in range(ROUNDS):
        pairs.append((rate(arguments, {}), rate(arguments, LARGE)))
        print(f"{turn + 1}: {pairs[-1][0]:,.0f} images/s, in large pages {pairs[-1][1]:,.0f}", flush=True)
    ratios = sorted(large / small for small, large in pairs)
    print(f"large pages: {median(ratios):.2f} times the images, from {ratios[0]:.2f} to {ratios[-1]:.2f}")


if __name__ == "__main__":
    main()
