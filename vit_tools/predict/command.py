"""vit-predict IMAGE... --checkpoint DIR: what a model says of images, and what it looked at"""

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vit_convert.beside import place_of
from vit_convert.outputs import OutputError, check_output, check_unread
from vit_convert.stopping import Stopped, stoppable
from vit_convert.streams import Unprinted, answer, keep_names, one_line, reader_left

if TYPE_CHECKING:  # heavy imports wait until they are needed: help answers at once
    from vit_tools.images import Corrupt

DESCRIPTION = """The most probable labels of each image, with the checkpoint's own preprocessing; and, if asked for,
what the model looked at, its features, and which images of a folder it finds alike."""

EPILOG = """IMAGE is a file, a folder (all images in it, at any depth), a pattern in quotes ('photos/*.jpg'), or - for a
list on stdin. An image that can't be read, or of which the model says NaN, is said, the others are answered, and the
exit code is 1. Photos are turned
upright by their EXIF orientation. DIR is what
vit-convert takes: a file, a directory of any library, or hf-hub:owner/name."""

MISTAKE, CORRUPT = 2, 1  # exit codes: of the user's; of images
OUTPUTS = {  # options that name a file to write, and its suffix
    "attention": ".png",
    "attention_npz": ".npz",
    "anatomy": ".png",
    "features": ".npz",
    "nearest_png": ".png",
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vit-predict",
        usage="vit-predict IMAGE... --checkpoint DIR [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("images", metavar="IMAGE", nargs="*")
    add("--checkpoint", metavar="DIR", required=True)
    add("--framework", choices=("torch", "flax"), default="torch", help="the answers are the same (default: torch)")
    add("--top", type=int, default=5, metavar="K", help="labels an image (default: 5)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, a line an image (and --knn)")
    form.add_argument("--csv", action="store_true", help="print CSV: image, rank, label, probability")
    add("--batch-size", type=int, default=16, metavar="N", help="images at once (default: 16)")
    looked = parser.add_argument_group("what it looked at")
    looked.add_argument(
        "--attention", type=Path, metavar="PNG", help="last layer, rollout and token sizes, a row an image (up to 64)"
    )
    looked.add_argument("--attention-npz", type=Path, metavar="NPZ", help="the numbers behind it")
    looked.add_argument("--anatomy", type=Path, metavar="PNG", help="patch filters and positions; needs no image")
    features = parser.add_argument_group("features, for models with and without labels")
    features.add_argument(
        "--features", type=Path, metavar="NPZ", help="pooled, class token, patch tokens; output of CLIP"
    )
    features.add_argument("--layer", type=int, metavar="I", help="tokens of block I (default: the last, normalised)")
    features.add_argument("--nearest", metavar="FOLDER", help="the images of a folder that are most like each image")
    features.add_argument("--nearest-png", type=Path, metavar="PNG", help="the same as a picture")
    features.add_argument(
        "--knn", nargs=2, metavar=("TRAIN", "TEST"), help="k-NN accuracy; each is a FOLDER/CLASS/*, or tfds:NAME/SPLIT"
    )
    features.add_argument("--neighbours", type=int, default=5, metavar="N", help="of --nearest (default: 5)")
    features.add_argument("--data-dir", type=Path, metavar="DIR", help="where TFDS has its datasets")
    features.add_argument("--k", type=int, default=20, help="of --knn (default: 20)")
    told = parser.add_argument_group("what the checkpoint doesn't tell, as vit-convert asks for it")
    told.add_argument("--preset", metavar="NAME", help="the model's name: vit_base_patch16_224")
    told.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="one config field")
    told.add_argument("--weights", metavar="NAME", help="which of several in one file: model, model_ema, teacher")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code: 2 for a mistake of the user's, 1 if some images could not be read or
    answered, 128 and the signal's number if it was ended: SIGPIPE's where the reader of its answers left."""
    keep_names()
    args = make_parser().parse_args(argv)
    try:
        with stoppable():
            return said(args)
    except Stopped as stop:
        print(f"vit-predict: ended by {stop.name}; nothing half-written was left behind", file=sys.stderr)
        return 128 + stop.number


def said(args: argparse.Namespace) -> int:
    """`run`, and what stops it in one message."""
    from vit_convert.errors import CheckpointError
    from vit_tools.images import NoImages

    try:
        check(args)
        return run(args)
    except (CheckpointError, NoImages, OutputError, Unprinted, UsageError) as error:
        print(f"vit-predict: error: {error}", file=sys.stderr)
        return MISTAKE
    except BrokenPipeError:
        reader_left()
        return 128 + signal.SIGPIPE
    except OSError as error:  # of images there are none: they are told one by one
        print(f"vit-predict: error: {error}", file=sys.stderr)
        return MISTAKE


class UsageError(ValueError):
    """Options that don't go together, or of impossible values."""


def check(args: argparse.Namespace) -> None:
    """
    Raises:
        UsageError: what is asked for makes no sense.
        OutputError: a file can't be written under that name.
        OSError: what is to be written has the name of a device.
    """
    for name in ("top", "batch_size", "neighbours", "k"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(args, name)}")
    check_outputs(args)  # before the images: a shell may have handed the only one to an output
    if not args.images and not args.anatomy and not args.knn:
        raise UsageError("no image is named: expected files, folders, patterns, or - for a list on stdin")
    of_images = ("attention", "attention_npz", "features", "nearest")
    if not args.images and (asked := [name for name in of_images if getattr(args, name)]):
        raise UsageError(f"--{asked[0].replace('_', '-')} needs images: name files, folders, patterns, or -")
    draws = args.attention or args.anatomy or args.nearest_png
    needed = [("torch", "torch")] if args.framework == "torch" else [("jax", "flax"), ("flax", "flax")]
    for name, extra in [*needed * asks_model(args), *[("matplotlib", "predict")] * bool(draws)]:
        if find_spec(name) is None:
            other = " (or choose the other --framework)" if extra != "predict" else ""
            raise UsageError(f"{name} is not installed: pip install {name}, or vit-parity[{extra}]{other}")
    if args.csv and (args.nearest or args.knn):
        raise UsageError("--csv has no columns for --nearest and --knn: ask for --json")
    if args.nearest_png and not args.nearest:
        raise UsageError("--nearest-png needs --nearest FOLDER, the images to choose from")


def check_outputs(args: argparse.Namespace) -> None:
    """
    Raises:
        OutputError: a file can't be written under that name.
        UsageError: it would be written over by another one.
        OSError: it has the name of a device.
    """
    taken: dict[Path, str] = {}  # by where a link leads
    for option, path in outputs(args).items():
        check_output(option, path, OUTPUTS[option.removeprefix("--").replace("-", "_")])
        if other := taken.get(place := place_of(path)):
            raise UsageError(f"{other} and {option} are one file, {path}: give each its own name")
        taken[place] = option


def outputs(args: argparse.Namespace) -> dict[str, Path]:
    """The files that are to be written, by the options that name them."""
    return {f"--{name.replace('_', '-')}": path for name in OUTPUTS if (path := getattr(args, name)) is not None}


def images_read(args: argparse.Namespace, paths: Sequence[str]) -> Iterator[str]:
    """The files of all images: those that are asked about, and those that they are compared with.

    Raises:
        NoImages: there are none to compare with.
    """
    from vit_tools.images import find_images
    from vit_tools.labelled import TFDS

    yield from paths
    for named in (args.nearest, *(args.knn or ())):
        if named and named != "-" and not named.startswith(TFDS):  # stdin can be read once
            yield from find_images([named])


def asks_model(args: argparse.Namespace) -> bool:
    """Whether anything is asked of the model itself: its anatomy is drawn from the checkpoint's tensors."""
    return bool(args.images or args.knn)


def check_count(args: argparse.Namespace, count: int) -> None:
    """
    Raises:
        UsageError: one picture can't show so many images.
    """
    from vit_tools.attention.picture import MOST

    for option, instead in (("attention", "--attention-npz"), ("nearest_png", "--nearest alone")):
        if getattr(args, option) and count > MOST:
            raise UsageError(
                f"--{option.replace('_', '-')}: one picture shows up to {MOST} images, got {count:,}: name fewer, or "
                f"ask for {instead}"
            )


def run(args: argparse.Namespace) -> int:
    """All that is asked for, the model loaded once, and not at all for the anatomy alone.

    Raises:
        CheckpointError: it can't be opened, or has not what is asked for.
        NoImages: nothing that is named is an image.
        OutputError: what is to be written is a file that is read.
        Unprinted: stdout can't be written.
        BrokenPipeError: its reader has left.
    """
    from vit_convert.resolve import parse_overrides
    from vit_tools.images import find_images
    from vit_tools.labelled import labelled
    from vit_tools.model import load
    from vit_tools.predict import tasks

    paths = find_images(args.images) if args.images else []
    check_count(args, len(paths))
    check_unread(outputs(args), args.checkpoint, images_read(args, paths))
    try:
        overrides = parse_overrides(args.set)
    except ValueError as error:
        raise UsageError(str(error)) from error
    told: dict[str, Any] = dict(preset=args.preset, overrides=overrides, weights=args.weights)
    if args.anatomy:
        tasks.anatomy(args.checkpoint, told, args.anatomy)
    if not asks_model(args):
        return 0
    model = load(args.checkpoint, args.framework, **told)
    corrupt = Told()
    if args.knn:
        gallery, asked_about = (labelled(named, args.data_dir) for named in args.knn)
        answer(tasks.knn(model, gallery, asked_about, args.k, args.batch_size, corrupt, args.json))
    if paths:
        asked = tasks.asked_of(model, args)
        tasks.answer_all(model, paths, asked, corrupt)
    return CORRUPT if corrupt.count else 0


class Told:
    """Says each image that can't be read or answered, once, and counts them."""

    count = 0

    def __call__(self, image: "Corrupt") -> None:
        self.count += 1
        print(one_line(f"vit-predict: {image.path}: can't be {image.cannot}: {image.why}"), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
