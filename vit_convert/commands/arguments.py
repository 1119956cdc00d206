"""What the commands have in common: their help, and how a user names a checkpoint and answers its questions."""

import argparse
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # heavy imports wait until they are needed: help answers at once
    from vit_convert.checkpoint import Checkpoint

EPILOG = """`inspect` and `formats` are reserved words: a checkpoint of that name is ./inspect or ./formats.

SRC is a file (.safetensors, an index of shards, .pt, .pth, .pth.tar, .bin, .npz, .msgpack), a directory that holds one,
an Orbax step, or hf-hub:owner/name; DST is a directory that is made.
Nothing is guessed: what neither the config beside SRC nor its family's code nor its names and shapes tell is asked
for."""


def make_parser(usage: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog="vit-convert",
        usage=usage,
        description=description,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("src", metavar="SRC")
    parser.add_argument(
        "--preset", metavar="NAME", help="the model's name, as its library calls it: vit_base_patch16_224"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="one config field; wins over the preset and over what the checkpoint says",
    )
    parser.add_argument(
        "--weights",
        metavar="NAME",
        help="which of several in one file, such as model, model_ema or teacher; averaged ones are preferred",
    )


def open_source(
    args: argparse.Namespace,
    image_size: int | tuple[int, int] | None = None,
    num_classes: int | None = None,
    dtype: str | None = None,
) -> "Checkpoint":
    """Opens SRC, and says what was chosen or changed on the way."""
    from vit_convert.checkpoint import open_checkpoint
    from vit_convert.resolve import parse_overrides

    found = open_checkpoint(
        args.src,
        preset=args.preset,
        overrides=parse_overrides(args.set),
        weights=args.weights,
        image_size=image_size,
        num_classes=num_classes,
        dtype=dtype,
    )
    note(found.said)
    return found


def note(notes: Iterable[str]) -> None:
    for text in notes:
        print(f"note: {text}", file=sys.stderr)
