"""vit-train RECIPE --workdir DIR [--overwrite] [overrides]: trains a Vision Transformer in Flax."""

import difflib
import os
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, NoReturn

import tyro

from train.config import ConfigError, HostsConfig, TrainConfig
from train.errors import NonFiniteLoss, SavingError, Stopped
from train.recipes import RECIPES

RESERVED = ("prepare", "evaluate")  # command words: no recipe may be called that

USAGE = """usage: vit-train RECIPE --workdir DIR [--overwrite] [overrides]
       vit-train evaluate CHECKPOINT --data NAME
       vit-train prepare NAME [--data-dir DIR]

Trains a Vision Transformer in Flax. The recipes:
{recipes}

vit-train RECIPE --help lists every setting of a recipe, its value there, and how to override it.
vit-train prepare downloads a TFDS dataset and writes it as ArrayRecord, for --data.name NAME."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What the command line says after the recipe's name."""

    workdir: Path  # the run's folder: config.json, metrics.jsonl, curves.png, checkpoint/
    overwrite: bool = False  # replace the run that the folder holds
    hosts: Annotated[HostsConfig, tyro.conf.arg(name="")] = field(default_factory=HostsConfig)  # one of several?
    config: Annotated[TrainConfig, tyro.conf.arg(name="")]


def main(argv: list[str] | None = None) -> None:
    """The command. Exits with 2 for a user's mistake, with 1 for a run that diverged or can't be saved, and with
    128 + the signal's number for one that a signal ended: 143 for SIGTERM, 130 for Ctrl-C."""
    args = sys.argv[1:] if argv is None else argv
    if args[:1] in ([], ["-h"], ["--help"]):
        print(USAGE.format(recipes="\n".join(f"  {name:20}{_summary(name)}" for name in RECIPES)))
        sys.exit(0 if args else 2)
    try:
        if args[0] == "prepare":
            from train.prepare import main as prepare

            return prepare(args[1:])
        if args[0] == "evaluate":
            from train.evaluation.command import main as evaluate

            return evaluate(args[1:])
        run(args[0], parse(args))
    except ConfigError as error:
        _fail(error, 2)


def parse(args: list[str]) -> Command:
    """The recipe's config with the overrides of the command line.

    Raises:
        ConfigError: no such recipe, or values that fit no run.
    """
    name = args[0]
    if name in RESERVED:
        raise ConfigError(f"{name!r} is a command word, and this version has no such command yet")
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"unknown recipe {name!r}: the recipes are {', '.join(RECIPES)}{hint}")
    default = Command(workdir=tyro.MISSING, config=RECIPES[name]())
    command = tyro.cli(Command, prog=f"vit-train {name}", description=_summary(name), args=args[1:], default=default)
    _check_model(command.config, default.config)
    return command


def _check_model(config: TrainConfig, recipe: TrainConfig) -> None:
    """
    Raises:
        ConfigError: settings of the model, which a checkpoint to start from decides.
    """
    given = [f.name for f in fields(config.model) if getattr(config.model, f.name) != getattr(recipe.model, f.name)]
    if config.init is not None and given:
        options = ", ".join(f"--model.{name.replace('_', '-')}" for name in given)
        raise ConfigError(
            f"with --init the model is the checkpoint's, and its classes are the dataset's: {options} can't be given; "
            "for another image size there is --init-size"
        )


def run(recipe: str, command: Command) -> None:
    """Trains, and says what came of it and where it is."""
    from train.devices import hosts  # jax
    from train.run import run as train

    try:
        hosts.start(command.hosts)
        result = train(command.config, command.workdir, recipe=recipe, overwrite=command.overwrite)
    except ConfigError:
        raise
    except NonFiniteLoss as error:  # on all hosts
        _fail(error, 1)
    except SavingError as error:
        if command.hosts.several:
            hosts.abort()
        _fail(error, 1)
    except Stopped as stopped:
        print(f"vit-train: {stopped}; the same command goes on from it", file=sys.stderr)
        sys.exit(128 + stopped.number)
    except KeyboardInterrupt:
        _stop(command.workdir / "steps")
    except Exception:
        if not command.hosts.several:
            raise
        hosts.abort()
    if not hosts.is_first():
        return
    print(
        f"held-out accuracy {result.test_accuracy:.2%}, loss {result.test_loss:.4f} ({result.weights} weights); "
        f"{result.train_seconds:.1f} s of training after {result.compile_seconds:.1f} s of compiling\n"
        f"{command.workdir / 'checkpoint'}  the model, for both frameworks\n"
        f"{command.workdir / 'best'}  its weights when they were best held out: {result.best.accuracy:.2%}, "
        f"step {result.best.step}\n"
        f"{command.workdir / 'curves.png'}  loss, accuracy and learning rate\n"
        f"{command.workdir / 'confusion.png'}  what is taken for what"
    )


def _stop(steps: Path) -> NoReturn:
    """After Ctrl-C while no steps are made: says what is left, and ends at once. XLA may be compiling in another
    thread, and a Python that is taken down under it crashes."""
    saved = max((int(path.name) for path in steps.glob("*") if path.name.isdecimal()), default=None)
    left = "no step was saved yet" if saved is None else f"the same command goes on from {steps / str(saved)}"
    print(f"vit-train: interrupted: {left}", file=sys.stderr, flush=True)
    os._exit(130)


def _fail(error: Exception | str, code: int) -> NoReturn:
    """One message, no traceback."""
    print(f"vit-train: error: {error}", file=sys.stderr)
    sys.exit(code)


def _summary(recipe: str) -> str:
    return (RECIPES[recipe].__doc__ or "").strip().splitlines()[0]


if __name__ == "__main__":
    main()
