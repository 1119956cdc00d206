"""vit-convert SRC DST --to LAYOUT: converts a checkpoint, bit for bit, in the memory of a few tensors."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vit_convert.commands import run_state
from vit_convert.commands.arguments import add_source, make_parser, note, open_source

if TYPE_CHECKING:
    from vit_convert.checkpoint import Checkpoint
    from vit_convert.save import Plan

USAGE = """vit-convert SRC DST --to LAYOUT [options]
       vit-convert RUN DST --to run-state [options]
       vit-convert inspect SRC [options]
       vit-convert formats"""


def run(arguments: Sequence[str]) -> int:
    """SRC DST --to LAYOUT"""
    args = _parse(arguments)
    from vit_convert.place import check_place
    from vit_convert.save import plan_save, save_planned

    _check_apart(args.src, args.dst)
    if args.to == run_state.NAME:
        return run_state.convert_run(args)
    source = open_source(args, _image_size(args.image_size), 0 if args.drop_head else args.num_classes, args.dtype)
    _check_elsewhere(source, args.dst)
    plan = plan_save(source.config, source.dtypes, args.to, source.preprocess, source.labels)
    check_place(Path(args.dst).resolve(), args.overwrite)
    note(plan.notes)
    if args.dry_run:
        _show(args, source, plan)
        return 0
    save_planned(args.dst, plan, source.tensors(), args.overwrite, progress=True)
    print(f"{args.src} ({source.layout}) -> {args.dst} ({plan.layout.name}): {len(plan.specs)} tensors")
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser(USAGE, "Converts a ViT checkpoint to another layout, bit for bit.")
    add_source(parser)
    parser.add_argument("dst", metavar="DST")
    parser.add_argument(
        "--to",
        required=True,
        metavar="LAYOUT",
        help="the layout to write, or a library: see `vit-convert formats`; run-state: SRC is the folder of a run of "
        "vit-train, or a step RUN/steps/N of it, and DST a run that vit-train and the torch loop both go on from",
    )
    parser.add_argument("--dtype", metavar="NAME", help="cast floating tensors: float16, bfloat16, float32, float64")
    parser.add_argument(
        "--image-size", metavar="SIZE", help="resize positions for 384 or 384x256, by the source family's own rule"
    )
    head = parser.add_mutually_exclusive_group()
    head.add_argument(
        "--num-classes", type=int, metavar="N", help="replace the head by one of zeros for N classes, to be trained"
    )
    head.add_argument("--drop-head", action="store_true", help="leave the head out")
    parser.add_argument("--dry-run", action="store_true", help="check everything and say what would be written")
    parser.add_argument("--overwrite", action="store_true", help="replace DST if it is a checkpoint directory")
    args = parser.parse_args(arguments)
    if args.num_classes is not None and args.num_classes < 1:
        parser.error(f"argument --num-classes: expected at least 1, got {args.num_classes} (--drop-head leaves it out)")
    return args


def _check_apart(src: str, dst: str) -> None:
    from vit_convert.errors import CheckpointError

    source, place = Path(src), Path(dst).resolve()
    if source.resolve() == place:
        raise CheckpointError(f"SRC and DST are the same: {src}; choose another DST")
    if place in (source.resolve().parent, source.parent.resolve()):  # which differ for a link
        raise CheckpointError(f"SRC {src} lies in DST {dst}; choose another DST")


def _check_elsewhere(source: "Checkpoint", dst: str) -> None:
    """Links may lead from anywhere into DST: to replace it would then remove the only copy of the source's weights."""
    from vit_convert.errors import CheckpointError

    place = Path(dst).resolve()
    for file in source.files:
        if place in (at := file.resolve()).parents:
            raise CheckpointError(f"SRC {source.path} has its weights in DST {dst}: {file} is {at}; choose another DST")


def _image_size(text: str | None) -> int | tuple[int, int] | None:
    from vit_convert.resolve import parse_value

    return None if text is None else parse_value("image_size", text, "--image-size")


def _show(args: argparse.Namespace, source: "Checkpoint", plan: "Plan") -> None:
    print(f"{args.src} ({source.layout}) -> {args.dst} ({plan.layout.name}), dry run: nothing is written")
    print(f"  {plan.layout.weights_file}: {len(plan.specs)} tensors, {plan.nbytes:,} bytes")
    for name in plan.files.files:
        print(f"  {name}")
