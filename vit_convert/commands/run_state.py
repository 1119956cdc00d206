"""vit-convert RUN DST --to run-state: a saved step of vit-train becomes a run that both frameworks go on from."""

import argparse
from pathlib import Path

from vit_convert.commands.arguments import note

NAME = "run-state"  # what --to takes for it, beside the layouts


def convert_run(args: argparse.Namespace) -> int:
    """What the command does once it knows that --to names a run's state.

    Raises:
        CheckpointError: options that are of weights alone, no whole step of a run, or a DST that can't be written.
    """
    from vit_convert.place import check_place
    from vit_convert.run_state import OURS, open_saved, write_run
    from vit_convert.training_state import DESCRIPTION, FOLDER, TENSORS

    _check_options(args)
    saved, dst = open_saved(Path(args.src)), Path(args.dst)
    check_place(dst.resolve(), args.overwrite, OURS)
    note(saved.said)
    what = f"{saved.path} (step {saved.step:,}, {saved.rule}) -> {dst}"
    if args.dry_run:
        print(f"{what}, dry run: nothing is written")
        print(f"  {FOLDER}/{TENSORS}: {len(saved.specs)} tensors, {saved.nbytes:,} bytes")
        print(f"  {FOLDER}/{DESCRIPTION}\n  {saved.config_file.name}")
        return 0
    write_run(dst, saved, overwrite=args.overwrite, progress=True)
    print(f"{what}: {len(saved.specs)} tensors")
    print(f"  vit-train {dst / saved.config_file.name} --workdir {dst}             goes on from it in Flax")
    print(f"  python -m vit_torch.training {dst} --workdir {dst}   in PyTorch")
    return 0


def _check_options(args: argparse.Namespace) -> None:
    """
    Raises:
        CheckpointError: what would make it the state of another run; all such options are named.
    """
    from vit_convert.errors import CheckpointError

    given = {
        "--preset": args.preset,
        "--set": args.set,
        "--weights": args.weights,
        "--dtype": args.dtype,
        "--image-size": args.image_size,
        "--num-classes": args.num_classes,
        "--drop-head": args.drop_head,
    }
    if wrong := [name for name, value in given.items() if value]:
        raise CheckpointError(
            f"{', '.join(wrong)} can't be given with --to {NAME}: a run goes on as it was; they are for weights"
        )
