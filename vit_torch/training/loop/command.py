"""The command: the settings of a vit-train run, trained by the specification in PyTorch."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import NoReturn

from vit_convert.errors import CheckpointError
from vit_convert.given import empty_option
from vit_convert.streams import keep_names
from vit_convert.unheard import heard_or_not
from vit_torch.training.loop import demo
from vit_torch.training.loop.errors import Diverged, Refused, Unwritten
from vit_torch.training.loop.journal import say
from vit_torch.training.loop.run import Run, open_run
from vit_torch.training.loop.settings import SETTINGS, checked, flat, read_options, read_run

PROG = "python -m vit_torch.training"
USAGE = f"""{PROG} [CONFIG] [--workdir DIR] [--overwrite] [--stop-after N] [--SETTING VALUE ...]"""
DESCRIPTION = """Trains a Vision Transformer in PyTorch with the settings of a vit-train run, by the train step that
specifies vit-train's. Without CONFIG: scikit-learn's digits, in two minutes or so."""
NAMED = {  # options whose values name what is used: none of them may be empty
    **dict.fromkeys(("--workdir", "--data.dir"), "a folder"),
    "--data.name": "the name of a dataset, folder:PATH or arrays:FILE.npz",
    "--init": "a checkpoint",
}
EPILOG = """Any setting of the run can be given another value:
  --data.name NAME             digits, folder:PATH (PATH/SPLIT/CLASS/*.jpg), arrays:FILE.npz (x_train, y_train, ...),
                               or a TFDS dataset that `vit-train prepare NAME` made, in --data.dir
  --optimizer.name lamb --optimizer.frozen '*' '!head.*' --ema-decay null --dtype float64

Everything lies in memory, and runs on the CPU. What the specification doesn't have is refused by name. A run that ended
early goes on by the same command, from DIR/state, in which vit-train can go on as well (vit-convert makes it its own).

settings:
"""


def main(argv: Sequence[str] = ()) -> None:
    """The command. Exits with 2 for a user's mistake or files that can't be read or written, with 1 for a run that
    diverged, and with 128 + the signal's number for one that a signal ended."""
    keep_names()
    try:
        number = _main(argv)
    except (Refused, Unwritten, CheckpointError) as error:
        _fail(error, 2)
    except Diverged as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        _fail("interrupted", 128 + signal.SIGINT)
    if number:
        sys.exit(128 + number)


def _main(argv: Sequence[str]) -> int:
    if said := empty_option(argv, NAMED):
        raise Refused(said)
    words, given = read_options(argv)
    args = _parser().parse_args(words)
    if args.stop_after is not None and args.stop_after < 1:
        raise Refused(f"--stop-after must be at least 1, got {args.stop_after}")
    recipe, settings = read_run(args.config) if args.config else (demo.RECIPE, flat(demo.DIGITS))
    where = str(args.config) if args.config else "the command line"
    settings = checked(settings | given, where)
    goes_on = "the run goes on" + ", and metrics.jsonl has it all" * (args.workdir is not None)
    with heard_or_not(goes_on), open_run(recipe, settings, args.workdir, overwrite=args.overwrite) as run:
        say(_described(recipe, run))
        return _trained(run, args.stop_after)


def _trained(run: Run, stop_after: int | None) -> int:
    """Trains, and says what came of it; the number of the signal that ended it before, or 0."""
    total = run.hyper.total_steps
    number = run.go(total if stop_after is None else min(total, stop_after))
    if run.state.step < total:
        left = f"the same command goes on from {run.workdir / 'state'}" if run.workdir else "nothing was saved"
        why = f"{signal.Signals(number).name} at" if number else "stopped after"
        say(f"{why} step {run.state.step}; {left}")
        return number
    run.leave()
    held, weights = run.held_out or run.judged(), "EMA" if run.hyper.ema_decay is not None else "last"
    say(f"held out: {held['test_accuracy']:.2%} of {held['test_count']}, {weights} weights")
    if run.workdir:
        say(f"{run.workdir / 'checkpoint'}  the model, for both frameworks")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG,
        usage=USAGE,
        description=DESCRIPTION,
        epilog=EPILOG + fill(", ".join(name.replace("_", "-") for name in SETTINGS), 110, break_on_hyphens=False),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("config", metavar="CONFIG", type=Path, nargs="?", help="config.json of a run, or its folder")
    parser.add_argument("--workdir", metavar="DIR", type=Path, help="the run's folder; without it nothing is written")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that DIR holds")
    parser.add_argument("--stop-after", metavar="N", type=int, help="end after step N, with the state of that step")
    return parser


def _described(recipe: str, run: Run) -> str:
    """What is about to run, in one line."""
    parameters = sum(p.numel() for p in run.model.parameters())
    on = f", going on from step {run.state.step}" if run.state.step else ""
    return (
        f"{recipe}: {parameters:,} parameters, {len(run.data.train.labels):,} images to train on, "
        f"{len(run.data.test.labels):,} held out, {run.hyper.total_steps:,} steps of {run.settings['batch_size']}, "
        f"{run.hyper.rule}, seed {run.settings['seed']}{on}"
    )


def _fail(error: Exception | str, code: int) -> NoReturn:
    """One message, no traceback."""
    print(f"vit_torch.training: error: {error}", file=sys.stderr)
    sys.exit(code)
