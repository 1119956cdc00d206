"""vit-export SRC OUT: a checkpoint as ONNX, StableHLO or torch.export, checked against the model"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vit_convert.beside import beside, place_of
from vit_convert.stopping import Stopped, stoppable
from vit_convert.streams import keep_names, reader_left

if TYPE_CHECKING:  # heavy imports wait until they are needed: help answers at once
    import numpy as np

    from vit_tools.export.base import Asked, Kind
    from vit_tools.export.check import Checked

DESCRIPTION = """Writes a checkpoint of any layout as a program that runs without vit-parity: OUT.onnx, OUT.stablehlo
(jax.export) or OUT.pt2 (torch.export). The batch is dynamic, and with --dynamic-size the image too. Before OUT is
there, it is run on this machine's CPU on real images and compared with the model; labels, preprocessing, config and
the weights' SHA-256 travel inside."""

EPILOG = """Images go in preprocessed and in float32, (B, C, H, W) for ONNX and torch.export, (B, H, W, C) for
StableHLO; logits come out in float32. A directory for transformers or timm is vit-convert's: --to transformers."""

MISTAKE, DISAGREES = 2, 1  # exit codes
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")  # jax.export's names


class UsageError(ValueError):
    """Options that don't go together, packages that are missing, a place that can't be written."""


class Broken(Exception):
    """What was written doesn't load, takes no batch of another size, or is not the model."""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vit-export",
        usage="vit-export SRC OUT [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("src", metavar="SRC")
    add("out", metavar="OUT", type=Path)
    add(
        "--dtype", choices=("float32", "float16", "bfloat16", "int8"), default="float32",
        help="it computes in; ONNX computes in float32 with weights that are stored in bfloat16, and the products of "
        "int8 in whole numbers (default: float32)",
    )  # fmt: skip
    add(
        "--platforms", default="cpu,cuda,tpu",
        help="of cpu, cuda, rocm, tpu, for StableHLO; run on cpu, which is always there, lowered alone for the others "
        "(default: cpu,cuda,tpu)",
    )  # fmt: skip
    add(
        "--dynamic-size", action="store_true",
        help="ONNX and torch.export: take images of any size that the patches divide, from two patches a side on",
    )  # fmt: skip
    add("--images", metavar="FOLDER", help="compare on these (default: scikit-learn's photographs)")
    add("--overwrite", action="store_true", help="replace OUT")
    told = parser.add_argument_group("what the checkpoint doesn't tell, as vit-convert asks for it")
    told.add_argument("--preset", metavar="NAME", help="the model's name: vit_base_patch16_224")
    told.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="one config field")
    told.add_argument("--weights", metavar="NAME", help="which of several in one file: model, model_ema, teacher")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code: 2 for a mistake of the user's, 1 if the export disagrees with the model, 128
    and the signal's number if it was ended."""
    keep_names()
    args = make_parser().parse_args(argv)
    try:
        with stoppable():
            return said(args)
    except Stopped as stop:
        print(f"vit-export: ended by {stop.name}; nothing was written to {args.out}", file=sys.stderr)
        return 128 + stop.number


def said(args: argparse.Namespace) -> int:
    """`run`, and what stops it in one message."""
    from vit_convert.errors import CheckpointError
    from vit_tools.images import NoImages

    try:
        return run(args)
    except BrokenPipeError:
        reader_left()
        return 128 + signal.SIGPIPE
    except (CheckpointError, NoImages, UsageError, OSError) as error:
        print(f"vit-export: error: {error}", file=sys.stderr)
        return MISTAKE
    except Broken as error:
        print(f"vit-export: error: {error}: nothing was written to {args.out}", file=sys.stderr)
        return DISAGREES


def run(args: argparse.Namespace) -> int:
    """Writes beside OUT, runs that, and renames it once it agrees."""
    kind = kind_of(args)
    asked = asked_of(args, kind)
    images = inputs(asked, args.images)  # before the work: making a program takes minutes
    from vit_tools.export.metadata import metadata

    with beside(args.out) as temporary:
        kind.write(asked, temporary, metadata(asked, kind))
        checked = compare(asked, kind, temporary, images)
        if not checked.fine(args.dtype):
            print(report(asked, kind, checked))
            raise Broken("it is not the model")
    # Only now: a checked file is kept, whether or not anyone reads of it.
    print(report(asked, kind, checked))
    print(f"{args.out}  {args.out.stat().st_size / 1e6:,.1f} MB, {kind.what}, {args.dtype}", flush=True)
    return 0


def kind_of(args: argparse.Namespace) -> "Kind":
    """
    Raises:
        UsageError: OUT is no kind of file that is known, or can't be of that dtype, or packages are missing.
        OSError: OUT is the name of a device.
    """
    from vit_tools.export.kinds import KINDS

    kind = KINDS.get(args.out.suffix)
    if kind is None:
        raise UsageError(f"OUT must end in {', '.join(KINDS)}, got {args.out}")
    if args.dtype not in kind.dtypes:
        raise UsageError(f"--dtype {args.dtype}: {kind.what} is written in {', '.join(kind.dtypes)}")
    if args.dynamic_size and not kind.any_size:
        others = " or ".join(suffix for suffix, other in KINDS.items() if other.any_size)
        raise UsageError(f"--dynamic-size: {kind.what} is written for images of one size; write {others}")
    if missing := [name for name in kind.needs if find_spec(name) is None]:
        raise UsageError(
            f"{kind.what} needs {', '.join(missing)}: pip install {' '.join(missing)}, or vit-parity with the extra "
            f"{kind.extra}"
        )
    if args.out.is_dir():
        raise UsageError(f"{args.out} is a folder: OUT is a file")
    place_of(args.out)
    if args.out.exists() and not args.overwrite:
        raise UsageError(f"{args.out} exists: give another name, or --overwrite")
    if not (folder := args.out.absolute().parent).is_dir():
        raise UsageError(f"{args.out} can't be written: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{args.out} can't be written: no permission to write in {folder}")
    return kind


def platforms_of(named: str) -> tuple[str, ...]:
    """
    Raises:
        UsageError: jax.export has no such platform.
    """
    names = [name.strip() for name in named.split(",")]
    if strange := [name for name in names if name not in PLATFORMS]:
        hint = "; a GPU is cuda (NVIDIA) or rocm (AMD)" if "gpu" in strange else ""
        raise UsageError(f"--platforms {named}: expected some of {', '.join(PLATFORMS)}, got {strange[0]!r}{hint}")
    return tuple(dict.fromkeys(("cpu", *names)))


def check_size(kind: "Kind", config: Any, dtype: str) -> None:
    """
    Raises:
        UsageError: such a file can't be that large.
    """
    from vit_convert.hub import num_parameters
    from vit_tools.export.kinds import KINDS

    kept = "float32" if dtype in kind.from_float32 else dtype
    nbytes = num_parameters(config) * (4 if kept == "float32" else 2)
    if not kind.holds(nbytes):
        assert kind.largest is not None
        others = " or ".join(suffix for suffix, other in KINDS.items() if other.holds(nbytes) and kept in other.dtypes)
        raise UsageError(
            f"{kind.what} holds up to {kind.largest / 1e9:.0f} GB ({kind.limit}), and this model has "
            f"{nbytes / 1e9:.1f} GB in {kept}: write {others}"
        )


def asked_of(args: argparse.Namespace, kind: "Kind") -> "Asked":
    """
    Raises:
        CheckpointError: SRC can't be opened, or nothing says how images become its input, or it is no input of it.
        UsageError: a --set that is none.
    """
    from vit_convert.checkpoint import open_checkpoint
    from vit_convert.resolve import parse_overrides
    from vit_tools.export.base import Asked
    from vit_tools.model import preprocessing

    try:
        overrides = parse_overrides(args.set)
    except ValueError as error:
        raise UsageError(str(error)) from error
    how: dict[str, Any] = dict(preset=args.preset, overrides=overrides, weights=args.weights)
    found = open_checkpoint(args.src, **how)
    preprocessing(args.src, found)  # refused before the work
    check_size(kind, found.config, args.dtype)
    return Asked(args.src, found, how, args.dtype, platforms_of(args.platforms), args.dynamic_size)


def compare(asked: "Asked", kind: "Kind", path: Path, images: "np.ndarray") -> "Checked":
    """The written file beside the model in float32, in the file's own framework, on images (N, H, W, C).

    Raises:
        Broken: its own runtime can't run it.
    """
    from vit_tools.export.check import answers, compared, other_sizes, together
    from vit_tools.model import load

    framework = "flax" if kind.suffix == ".stablehlo" else "torch"
    model = load(asked.path, framework, **asked.how, dynamic_size=asked.dynamic_size)
    sizes = [images, *(other_sizes(images, asked.found.config.patch_hw) if asked.dynamic_size else ())]
    theirs = [answers(lambda part: model(part)[0], of_one_size) for of_one_size in sizes]
    try:
        run = kind.load(path)
        ours = [answers(run, of_one_size) for of_one_size in sizes]
    except Exception as error:  # each runtime has its own kinds, and ONNX Runtime's have no base but this
        raise Broken(f"{kind.what} can't be run: {error}") from error
    return together(list(map(compared, ours, theirs)))


def inputs(asked: "Asked", folder: str | None) -> "np.ndarray":
    """Preprocessed images (N, H, W, C) to compare on.

    Raises:
        UsageError: there are none.
    """
    import numpy as np

    from vit_tools.export.check import photographs
    from vit_tools.images import Corrupt, Opened, find_images, open_images

    preprocess = asked.found.preprocess
    assert preprocess is not None
    if folder is not None:
        found = list(open_images(find_images([folder])[:64], preprocess))
        for image in found:
            if isinstance(image, Corrupt):
                print(f"vit-export: {image.path}: can't be read: {image.why}", file=sys.stderr)
        opened = [image.input for image in found if isinstance(image, Opened)]
        if not opened:
            raise UsageError(f"--images {folder}: none of its images can be read")
        return np.stack(opened)
    if find_spec("sklearn") is None:
        raise UsageError("give --images FOLDER to compare on, or install scikit-learn, which has two photographs")
    return np.stack([preprocess(picture) for picture in photographs()])


def report(asked: "Asked", kind: "Kind", checked: "Checked") -> str:
    """What the comparison came to, in words, and where the program was run."""
    sizes = " of several sizes" if asked.dynamic_size else ""
    said = f"{kind.what} against {asked.path} in float32 on {checked.images} images{sizes}: largest difference "
    if asked.found.answers != "labels":
        return f"{said}{checked.difference:.1e} of the largest feature; {ran(asked, kind)}"
    same = f"the same label for {checked.same_top1} of {checked.images}"
    return f"{said}{checked.difference:.1e} of the largest logit, {same}; {ran(asked, kind)}"


def ran(asked: "Asked", kind: "Kind") -> str:
    """Which platforms the program was run on, and which it was lowered for alone."""
    from vit_tools.export.base import RUN_ON

    others = kind.not_run(asked)
    return f"run on {RUN_ON}" + (f"; {', '.join(others)}: lowered, not run" if others else "")


if __name__ == "__main__":
    sys.exit(main())
