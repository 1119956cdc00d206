"""Reading training images, beside tf.data and the loaders of torchvision, timm and Grain, in one run

`python -m benchmarks.input` writes JPEGs as large as ImageNet's (500 x 375, quality 90, parts of scikit-learn's two
photographs) and crops them at random to 224 pixels, in batches of 64 uint8 images. With `--data-dir DIR`, where TFDS
has a prepared fashion_mnist, small records as well, in batches of 256. tf.data needs a Python with TensorFlow:
`--tf-python`.

Loaders take turns, a round each, and stand still meanwhile. What counts is processor time, that of all of a loader's
threads and processes: it says what a core gives, and other work on the machine changes it least.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.serving import ROOT, Loader, Round
from benchmarks.train_step import processor
from parity_tests.photographs import photograph

TF = "tf.data, bicubic", "tf.data, bilinear", "tf.data, bicubic, antialiased", "tf.data, bilinear, antialiased"
TF_SMALL = "tf.data, streamed", "tf.data, cached"
PHOTOGRAPHS = ["vit-parity", *TF, "torchvision", "timm", "grain"]
SMALL = ["vit-parity, streamed", TF_SMALL[0], "vit-parity, resident", TF_SMALL[1]]
OURS = dict(zip(SMALL, (SMALL[0], SMALL[0], SMALL[2], SMALL[2]), strict=True))  # what each is compared with
LINKS = 64
PACKAGES = ["grain", "simplejpeg", "opencv-python-headless", "pillow", "torch", "torchvision", "timm"]


def write_photographs(root: Path, count: int) -> None:
    """ROOT/train/{a,b}/*.jpg: that many, each under LINKS names, for drawing an order takes longer of few."""
    rng = np.random.default_rng(0)
    originals = [photograph(name) for name in ("china", "flower")]
    for number in range(count):
        left, top = int(rng.integers(0, 141)), int(rng.integers(0, 53))
        part = originals[number % 2].crop((left, top, left + 500, top + 375))
        for split in ("train", "test"):
            file = root / split / "ab"[number % 2] / f"{number:04}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            part.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(file, quality=int(rng.integers(87, 94)))
            if split == "train":
                for link in range(1, LINKS):
                    file.with_stem(f"{number:04}-{link:02}").hardlink_to(file)
            if number >= 2:
                break


def write_records(data_dir: Path, tf_python: Path, file: Path) -> None:
    """FILE.tfrecord with fashion_mnist's training records."""
    from train.input.sources.tfds import Tfds

    source = Tfds("fashion_mnist", "train", data_dir)
    with file.open("w") as lines:
        lines.writelines(source.records[i].hex() + "\n" for i in range(len(source)))
    command = [str(tf_python), "-m", "benchmarks.input_tf", "write", str(file), "1"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def command_of(name: str, source: str, cores: int, tf_python: Path) -> list[str]:
    """What starts a loader."""
    python, module = (tf_python, "input_tf") if name.startswith("tf.data") else (sys.executable, "input_loaders")
    return [str(python), "-m", f"benchmarks.{module}", name, source, str(cores)]


def measure(commands: dict[str, list[str]], cores: int, images: int, rounds: int) -> dict[str, list[Round]]:
    """Name -> its rounds, the loaders taking turns."""
    loaders: dict[str, Loader] = {}
    try:
        for name, command in commands.items():
            print(f"  starting {name} ...", flush=True)
            loaders[name] = Loader(command, cores)
        found: dict[str, list[Round]] = {name: [] for name in loaders}
        for number in range(rounds):
            for name, loader in loaders.items():
                found[name].append(loader.round(images))
            print(f"\r  round {number + 1} of {rounds}", end="", flush=True)
        print()
        return found
    finally:
        for loader in loaders.values():
            loader.close()


def table(found: dict[str, list[Round]], cores: int) -> str:
    """Markdown: images a second of one core's time, and by the clock; and ours over each, a round with a round."""
    lines = ["| loader | images/s of a core | images/s by the clock | vit-parity / it: median (quartiles) |"]
    lines.append("|---|---|---|---|")
    for name, rounds in found.items():
        ours = found[OURS.get(name, "vit-parity")]
        rates = [r.images / r.cpu_seconds for r in rounds]
        ratios = [a.images / a.cpu_seconds / rate for a, rate in zip(ours, rates, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        spread = "1" if ours is rounds else f"{middle:.2f} ({low:.2f} to {high:.2f})"
        clock = statistics.median(r.images / r.seconds for r in rounds)
        lines.append(f"| {name} | {statistics.median(rates):,.0f} | {clock:,.0f} | {spread} |")
    return "\n".join(lines)


def machine(tf_python: Path) -> str:
    """What ran it, and how busy it was."""
    versions = [f"{package} {importlib.metadata.version(package)}" for package in PACKAGES]
    if tf_python.exists():
        code = "import importlib.metadata as m; print(next(d.version for d in m.distributions() if d.name in NAMES))"
        code = code.replace("NAMES", "('tensorflow', 'tensorflow-cpu', 'tensorflow_cpu')")
        versions.append("tensorflow " + subprocess.check_output([tf_python, "-c", code], text=True).strip())
    load = ", ".join(f"{n:.1f}" for n in os.getloadavg())
    cores = len(os.sched_getaffinity(0))
    return f"{processor()}, {cores} cores, load {load}, Python {platform.python_version()}; {', '.join(versions)}"


def arguments_of(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tf-python", type=Path, default=Path("none"), help="a Python that can import tensorflow")
    parser.add_argument("--data-dir", type=Path, help="where TFDS has fashion_mnist, for small records")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="that each loader may use")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=1024, help="photographs a round; small records: 20 times as many")
    parser.add_argument("--loaders", nargs="+", choices=PHOTOGRAPHS + SMALL, default=PHOTOGRAPHS + SMALL)
    parser.add_argument("--json", type=Path, help="write every round here")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """The command."""
    arguments = arguments_of(given)
    wanted, tf_python = arguments.loaders, arguments.tf_python
    if not tf_python.exists():
        print("skipped tf.data: it needs --tf-python PATH, a Python that can import tensorflow")
        wanted = [name for name in wanted if not name.startswith("tf.data")]
    if arguments.data_dir is None:
        print("skipped small records: they need --data-dir DIR, where TFDS has fashion_mnist")
        wanted = [name for name in wanted if name not in SMALL]
    print(machine(tf_python))
    everything = {}
    with tempfile.TemporaryDirectory() as folder:
        sources = dict.fromkeys(PHOTOGRAPHS, folder)
        if any(name in wanted for name in PHOTOGRAPHS):
            write_photographs(Path(folder), 256)
        sources |= dict.fromkeys(SMALL, str(arguments.data_dir))
        if arguments.data_dir and any(name in wanted for name in TF_SMALL):
            write_records(arguments.data_dir, tf_python, Path(folder, "records"))
            sources |= dict.fromkeys(TF_SMALL, f"{folder}/records.tfrecord")
        for kind, names in (("photographs", PHOTOGRAPHS), ("small records", SMALL)):
            of = [name for name in names if name in {*wanted, *(OURS.get(name, "vit-parity") for name in wanted)}]
            if not set(of) & set(wanted):
                continue
            images = arguments.images * (20 if names is SMALL else 1)
            commands = {name: command_of(name, sources[name], arguments.cores, tf_python) for name in of}
            found = measure(commands, arguments.cores, images, arguments.rounds)
            print(f"\n{kind}, {arguments.cores} cores\n\n{table(found, arguments.cores)}\n")
            everything[kind] = {name: [asdict(r) for r in rounds] for name, rounds in found.items()}
    print(machine(tf_python))
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(tf_python)} | everything, indent=2) + "\n")


if __name__ == "__main__":
    main()
