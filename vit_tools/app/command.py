"""vit-app --checkpoint DIR: a local page: drop a photo, see what both frameworks say and what the model looked at"""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from vit_convert.streams import keep_names

if TYPE_CHECKING:  # heavy imports wait until they are needed: help answers at once
    from vit_tools.model import Framework, Model


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vit-app",
        description="A page on this machine: drop a photo, see its labels in PyTorch and in Flax side by side, their "
        "difference, and attention by layer and head. Nothing leaves the machine, and without --host only it can open "
        "the page.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--checkpoint", metavar="DIR", required=True, help="what vit-convert takes; it has to know its preprocessing")
    add("--port", type=int, default=7860, help="(default: 7860)")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine alone)")
    told = parser.add_argument_group("what the checkpoint doesn't tell, as vit-convert asks for it")
    told.add_argument("--preset", metavar="NAME", help="the model's name: vit_base_patch16_224")
    told.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="one config field")
    told.add_argument("--weights", metavar="NAME", help="which of several in one file: model, model_ema, teacher")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns 2 for a mistake of the user's."""
    keep_names()
    args = make_parser().parse_args(argv)
    from vit_convert.errors import CheckpointError

    try:
        models = load_both(args)
    except (CheckpointError, ValueError) as error:
        print(f"vit-app: error: {error}", file=sys.stderr)
        return 2
    return serve(models, args.host, args.port)


def load_both(args: argparse.Namespace) -> "dict[Framework, Model]":
    """
    Raises:
        CheckpointError: it can't be opened, or nothing says how images become its input.
        ValueError: a package is missing, or a --set that is none.
    """
    missing = [name for name in ("gradio", "torch", "jax", "flax", "matplotlib") if find_spec(name) is None]
    if missing:
        raise ValueError(f"the page needs {', '.join(missing)}: pip install {' '.join(missing)}, or the extra app")
    from vit_convert.resolve import parse_overrides
    from vit_tools.model import FRAMEWORKS, load

    told: dict[str, Any] = dict(preset=args.preset, overrides=parse_overrides(args.set), weights=args.weights)
    return {framework: load(args.checkpoint, framework, **told) for framework in FRAMEWORKS}


def reached_by_others(host: str) -> bool:
    """Whether an address, or the name of one, may be another's than this machine's own."""
    try:
        return not ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() != "localhost"


def serve(models: "dict[Framework, Model]", host: str, port: int) -> int:
    """Until Ctrl-C."""
    from vit_tools.app.page import launch, make_page

    if reached_by_others(host):
        print(f"vit-app: --host {host}: every machine that reaches this one can open the page", file=sys.stderr)
    try:
        launch(make_page(models), host, port)
    except OSError as error:
        print(f"vit-app: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
