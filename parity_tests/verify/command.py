"""vit-verify SRC: proves that a checkpoint is one function in PyTorch, in Flax and in its own class"""

import argparse
import json
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from parity_tests.verify.asked import DTYPES, Asked
from vit_convert.commands.arguments import add_source, note
from vit_convert.outputs import OutputError, check_output, check_unread
from vit_convert.stopping import Stopped, stoppable
from vit_convert.streams import keep_names, reader_left

if TYPE_CHECKING:  # heavy imports wait until they are needed: help answers at once
    from parity_tests.verify.source import Source

PROG = "vit-verify"
BROKEN = 70  # EX_SOFTWARE of sysexits.h
DESCRIPTION = """Loads a ViT checkpoint in PyTorch, in Flax and, where its library is installed, in the class that it
was written for, and compares every intermediate, every gradient and the predictions, on photographs and on noise: in
float64, where two ways to compute one function differ by rounding alone, and in float32 and bfloat16, where Flax's
error is held against PyTorch's. Of its own class what enters the first block, what the blocks give, the
output and every gradient are compared in float64; in the other dtypes its output's error is told. Exits with 0 if all
agree and with 1 if not; 2 is a mistake in what was asked, 70 one of its own. Runs on the CPU."""
EPILOG = """SRC is a file (.safetensors, .pt, .pth, .pth.tar, .bin, .npz, .msgpack), a directory of any library, the
folder of a run of vit-train, or hf-hub:owner/name. What it doesn't tell is asked for, as vit-convert does."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code: 0 if all agree, 1 if not and for nothing else, 2 for what the user can mend,
    BROKEN for a mistake of its own, 128 and the signal's number if it was ended."""
    keep_names()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with stoppable():
            return run(arguments)
    except Stopped as stop:
        print(f"{PROG}: ended by {stop.name}; nothing half-written was left behind", file=sys.stderr)
        return 128 + stop.number
    except BrokenPipeError:
        reader_left()
        return 128 + signal.SIGPIPE
    except ModuleNotFoundError as error:
        return _failed(f"needs {error.name}: pip install 'vit-parity[verify]'")
    except MemoryError as error:
        return _failed(f"not enough memory: {error}")
    except Exception as error:
        if _expected(error):
            return _failed(str(error))
        traceback.print_exc()  # Python's own exit code would be that of a verdict
        return BROKEN


def run(arguments: Sequence[str]) -> int:
    """Proves, prints, and leaves the report."""
    args = make_parser().parse_args(arguments)
    asked = Asked(dtypes=_dtypes(args.dtypes), images=args.images, seed=args.seed, original=not args.no_original)
    _check(args)
    if "jax" not in sys.modules:
        os.environ["JAX_PLATFORMS"] = "cpu"  # what a GPU rounds is another question
    source = _open(args)
    note(source.checkpoint.said)
    from parity_tests.verify.facts import facts
    from parity_tests.verify.page import write_page
    from parity_tests.verify.prove import prove
    from parity_tests.verify.table import table
    from parity_tests.verify.verdict import agrees, check_all

    with _shown() as say:
        proof = prove(source, asked, say)
    checks, command = check_all(proof), shlex.join([PROG, *arguments])
    try:  # the verdict took minutes: it is lost neither with the report nor with who reads it
        print(json.dumps(facts(proof, checks, command), indent=2) if args.json else table(proof, checks), flush=True)
    finally:
        if args.report:
            write_page(Path(args.report), proof, checks, command)
    return 0 if agrees(checks) else 1


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROG, description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    add_source(parser)
    add = parser.add_argument
    add("--json", action="store_true", help="print JSON, with every number")
    add("--report", metavar="HTML", help="leave everything as one page that needs nothing beside it")
    add("--dtypes", metavar="NAMES", default=",".join(DTYPES), help="some of float64,float32,bfloat16 (default: all)")
    add(
        "--images",
        type=int,
        metavar="N",
        help="photographs and noise in turn (default: 2, of narrow models more: with few the ratios of errors scatter)",
    )
    add("--seed", type=int, default=0, help="of the noise, and of what is cut out of photographs (default: 0)")
    add("--no-original", action="store_true", help="leave out the class that the checkpoint was written for")
    return parser


def _dtypes(text: str) -> tuple[str, ...]:
    """In the order of DTYPES.

    Raises:
        CheckpointError: a name that is none of them.
    """
    from vit_convert.errors import CheckpointError

    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in DTYPES]:
        raise CheckpointError(f"--dtypes: expected some of {','.join(DTYPES)}, got {unknown[0]!r}")
    return tuple(name for name in DTYPES if name in names)


def _check(args: argparse.Namespace) -> None:
    """Raises CheckpointError, OutputError, OSError or ModuleNotFoundError for what would be wrong at the end."""
    from vit_convert.errors import CheckpointError

    if args.images is not None and args.images < 1:
        raise CheckpointError(f"--images: expected 1 or more, got {args.images}")
    if args.seed < 0:
        raise CheckpointError(f"--seed: expected 0 or more, got {args.seed}")
    if args.report:
        _check_report(Path(args.report), args.src)


def _check_report(path: Path, source: str) -> None:
    """Raises OutputError, OSError or ModuleNotFoundError where no report can be written there."""
    check_output("--report", path, ".html")
    check_unread({"--report": path}, source)
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError(name="matplotlib")  # it draws the report alone


def _open(args: argparse.Namespace) -> "Source":
    from parity_tests.verify.source import open_source
    from vit_convert.resolve import parse_overrides

    overrides = parse_overrides(args.set)
    return open_source(args.src, preset=args.preset, overrides=overrides, weights=args.weights)


@contextmanager
def _shown() -> Iterator[Callable[[str], None]]:
    """On a terminal, a line that tells the stage; gone when it ends."""
    from vit_convert.progress import CLEAR

    def say(text: str) -> None:
        if sys.stderr.isatty():
            print(CLEAR + text, end="", file=sys.stderr, flush=True)

    try:
        yield lambda stage: say(f"{PROG}: {stage}")
    finally:
        say("")


def _failed(message: str) -> int:
    print(f"{PROG}: error: {message}", file=sys.stderr)
    return 2


def _expected(error: Exception) -> bool:
    """Whether an error is about the user's files; anything else is a bug and keeps its traceback."""
    from vit_convert.errors import CheckpointError

    return isinstance(error, CheckpointError | OutputError | OSError)
