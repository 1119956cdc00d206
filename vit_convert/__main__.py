"""vit-convert: moves a checkpoint between layouts, and says what a checkpoint is."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # heavy imports wait until they are needed: help answers at once
    from vit_convert.checkpoint import Checkpoint

USAGE = """vit-convert SRC DST --to LAYOUT [--preset NAME] [--set FIELD=VALUE ...] [--overwrite]
       vit-convert inspect SRC [--preset NAME] [--set FIELD=VALUE ...] [--json]
       vit-convert formats"""
EPILOG = """`inspect` and `formats` are reserved words: a checkpoint of that name is ./inspect or ./formats.

SRC is a file (.safetensors, an index of shards, .pt, .pth) or a directory; DST is a directory that is made.
Nothing is guessed: what neither the config beside SRC nor its names and shapes tell is asked for."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code: 2 for what the user can mend."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = COMMANDS.get(arguments[0] if arguments else "")
    try:
        return command(arguments[1:]) if command else convert(arguments)
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away, as in `vit-convert formats | head -1`
        return 1
    except (ValueError, OSError) as error:
        if not _expected(error):
            raise
        print(f"vit-convert: error: {error}", file=sys.stderr)
        return 2


def convert(arguments: Sequence[str]) -> int:
    """SRC DST --to LAYOUT"""
    parser = _parser(USAGE, "Converts a ViT checkpoint to another layout, bit for bit.")
    parser.add_argument("src", metavar="SRC")
    parser.add_argument("dst", metavar="DST")
    parser.add_argument("--to", required=True, metavar="LAYOUT", help="the layout to write: see `vit-convert formats`")
    _add_answers(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace DST if it is a checkpoint directory")
    args = parser.parse_args(arguments)
    from vit_convert.checkpoint import save_checkpoint
    from vit_convert.errors import CheckpointError

    if Path(args.src).resolve() in (Path(args.dst).resolve(), Path(args.dst).resolve() / Path(args.src).name):
        raise CheckpointError(f"SRC and DST are the same: {args.src}")
    source = _open(args)
    notes = save_checkpoint(
        args.dst,
        source.config,
        source.tensors(),
        dtypes=source.dtypes,
        layout=args.to,
        preprocess=source.preprocess,
        labels=source.labels,
        overwrite=args.overwrite,
    )
    _note(notes)
    print(f"{args.src} ({source.layout}) -> {args.dst} ({args.to}): {len(source.dtypes)} tensors")
    return 0


def inspect(arguments: Sequence[str]) -> int:
    """inspect SRC"""
    parser = _parser("vit-convert inspect SRC [options]", "Says what a checkpoint is, and how each value is known.")
    parser.add_argument("src", metavar="SRC")
    _add_answers(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(arguments)
    found = _open(args)
    facts = _facts(found)
    if args.json:
        print(json.dumps(facts, indent=2))
        return 0
    for name in ("layout", "parameters", "dtype"):
        print(f"{name:<19} {facts[name]:,}" if name == "parameters" else f"{name:<19} {facts[name]}")
    for name, entry in facts["config"].items():
        print(f"{name:<19} {_text(entry['value']):<17} {entry['source']}")
    for name in ("preprocess", "labels"):
        print(f"{name:<19} {_text(facts[name])}")
    return 0


def formats(arguments: Sequence[str]) -> int:
    """formats"""
    _parser("vit-convert formats", "Lists the layouts that --to takes.").parse_args(arguments)
    from vit_convert.layouts import LAYOUTS

    for name in sorted(LAYOUTS):
        print(f"{name:<14} {LAYOUTS[name].summary}")
    return 0


def _parser(usage: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog="vit-convert",
        usage=usage,
        description=description,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_answers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", metavar="NAME", help="the model's name, as timm calls it: vit_base_patch16_224")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="one config field; wins over the preset and over what the checkpoint says",
    )


def _open(args: argparse.Namespace) -> "Checkpoint":
    from vit_convert.checkpoint import open_checkpoint
    from vit_convert.resolve import parse_override

    found = open_checkpoint(args.src, preset=args.preset, overrides=dict(map(parse_override, args.set)))
    _note(found.said)
    return found


def _note(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _facts(found: "Checkpoint") -> dict[str, Any]:
    from vit_convert.hub import num_parameters

    values = found.config.to_dict()
    return {
        "layout": found.layout,
        "parameters": num_parameters(found.config),
        "dtype": ", ".join(sorted({str(dtype) for dtype in found.dtypes.values()})),
        "config": {name: {"value": values[name], "source": found.sources[name]} for name in values},
        "preprocess": found.preprocess.to_dict() if found.preprocess else None,
        "labels": list(found.labels) if found.labels else None,
    }


def _text(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(entry)}" for name, entry in value.items())
    if isinstance(value, list) and len(value) > 8:
        return f"{len(value)}: {', '.join(map(str, value[:3]))}, ..."
    if isinstance(value, tuple | list):
        return ("x" if all(isinstance(n, int) for n in value) else " ").join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _expected(error: Exception) -> bool:
    """Whether an error is about the user's files; anything else is a bug and keeps its traceback."""
    from vit_convert.errors import CheckpointError

    return isinstance(error, CheckpointError | OSError)


COMMANDS = {"inspect": inspect, "formats": formats}
RESERVED = tuple(COMMANDS)  # a checkpoint of such a name is ./inspect

if __name__ == "__main__":
    sys.exit(main())
