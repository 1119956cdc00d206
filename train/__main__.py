"""vit-train RECIPE --workdir DIR [--overwrite] [overrides]: trains a Vision Transformer in Flax."""

import difflib
import inspect
import os
import re
import sys
from collections import Counter
from dataclasses import dataclass, field, fields
from functools import reduce
from pathlib import Path
from typing import Annotated, NoReturn

import tyro

from train.config import ConfigError, HostsConfig, TrainConfig
from train.errors import DataError, DeviceError, NonFiniteLoss, SavingError, Stopped
from train.recipes import FROM_A_CHECKPOINT, IMAGENET, RECIPES, SMALL
from vit_convert.given import empty_option
from vit_convert.streams import Unprinted, answer, keep_names
from vit_convert.unheard import heard_or_not, to_nowhere

RESERVED = ("prepare", "evaluate")  # command words: no recipe may be called that

USAGE = """usage: vit-train RECIPE --workdir DIR [overrides]     train, or go on with a run that was stopped there
       vit-train RUN/config.json --workdir DIR       train with the settings of another run
       vit-train evaluate CHECKPOINT --data NAME     judge a checkpoint of any layout; --help says more
       vit-train prepare NAME [--data-dir DIR]       make a TFDS dataset readable without TensorFlow
       vit-train --version

Trains a Vision Transformer in Flax.
{recipes}

vit-train RECIPE --help has its paper, command, cost and published accuracy, and lists every setting. Those most needed:
  --data.dir DIR        where TFDS has its datasets      --batch-size N  --epochs N  --seed N
  --data.name NAME      digits, a TFDS dataset, or folder:PATH with PATH/SPLIT/CLASS/*.jpg
  --init CHECKPOINT     start from a checkpoint of any layout
  --devices.fsdp        parameters in parts over all devices"""

LESS_MEMORY = (
    "a smaller --batch-size, the same batch in parts (--optimizer.accumulate N), blocks that are computed again "
    "(--remat), --dtype bfloat16 and, on several devices, --devices.fsdp"
)
NAMED = {  # options whose values name what is used: none of them may be empty
    **dict.fromkeys(("--workdir", "--data.dir", "--data-dir"), "a folder"),
    **dict.fromkeys(("--data.name", "--data"), "the name of a dataset, or folder:PATH"),
    "--init": "a checkpoint",
}
GROUPS = {"Small:": SMALL, "From a checkpoint:": FROM_A_CHECKPOINT, "ImageNet-1k:": IMAGENET}


@dataclass(frozen=True, kw_only=True)
class Command:
    """What the command line says after the recipe's name."""

    workdir: Path  # the run's folder: config.json, metrics.jsonl, curves.png, checkpoint/
    overwrite: bool = False  # replace the run that the folder holds
    hosts: Annotated[HostsConfig, tyro.conf.arg(name="")] = field(default_factory=HostsConfig)  # one of several?
    config: Annotated[TrainConfig, tyro.conf.arg(name="")]


def main(argv: list[str] | None = None) -> None:
    """The command. Exits with 2 for a user's mistake, with 1 for a run that diverged, can't be saved or finds too
    little memory on its devices, and with 128 + the signal's number for one that a signal ended: 143 for SIGTERM, 130
    for Ctrl-C."""
    keep_names()
    args = sys.argv[1:] if argv is None else argv
    try:
        _main(args)
    except (ConfigError, DataError) as error:
        _fail(error, 2)
    except (DeviceError, SavingError, Unprinted) as error:  # the latter two are of evaluate's picture and answer
        _fail(error, 1)
    except KeyboardInterrupt:  # of evaluate and prepare; a run has its own way to end
        sys.exit(130)
    except BrokenPipeError:  # `vit-train --help | head`: who reads has seen enough
        to_nowhere(sys.stdout)


def _main(args: list[str]) -> None:
    if args[:1] in ([], ["-h"], ["--help"]):
        answer(USAGE.format(recipes=_recipes()))
        sys.exit(0 if args else 2)
    if args[0] == "--version":
        from importlib.metadata import version

        return answer(f"vit-train {version('vit-parity')}")
    if said := empty_option(args, NAMED):
        raise ConfigError(said)
    if args[0] == "prepare":
        from train.prepare import main as prepare

        return prepare(args[1:])
    if args[0] == "evaluate":
        from train.evaluation.command import main as evaluate

        return evaluate(args[1:])
    recipe, command = _base(args[0])[0], parse(args)
    with heard_or_not("the run goes on, and metrics.jsonl has it all"):
        run(recipe, command)


def _recipes() -> str:
    lines = []
    for group, recipes in GROUPS.items():
        lines += [group, *(f"  {recipe.__name__:20}{_summary(recipe.__name__)}" for recipe in recipes)]
    return "\n".join(lines)


def parse(args: list[str]) -> Command:
    """A recipe's config with the overrides of the command line.

    Raises:
        ConfigError: no such recipe, or values that fit no run.
    """
    _, config, summary = _base(args[0])
    default = Command(workdir=tyro.MISSING, config=config)
    command = tyro.cli(Command, prog=f"vit-train {args[0]}", description=summary, args=args[1:], default=default)
    _check_lists(command.config, args)
    _check_model(command.config, config)
    return command


def _base(name: str) -> tuple[str, TrainConfig, str]:
    """(recipe, its config, what to say about it) of a recipe's name, or of a run's config.json or folder."""
    if name in RECIPES:
        return name, RECIPES[name](), _described(name)
    if name.endswith(".json") or Path(name).is_dir():
        from train.config.read import read_config

        recipe, config = read_config(Path(name))
        return recipe, config, f"The settings of {name}, a run of the recipe {recipe}."
    close = difflib.get_close_matches(name, RECIPES, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ConfigError(
        f"unknown recipe {name!r}: the recipes are {', '.join(RECIPES)}{hint}; or name the config.json of a run"
    )


def _check_lists(config: TrainConfig, args: list[str]) -> None:
    """
    Raises:
        ConfigError: a setting that takes a list is given twice; tyro keeps the last.
    """
    options = Counter(word.partition("=")[0].replace("_", "-") for word in args if word.startswith("--"))
    for option, count in options.items():
        path = option.removeprefix("--").replace("-", "_").split(".")
        value = reduce(lambda part, name: getattr(part, name, None), path, config)
        if count > 1 and isinstance(value, tuple):
            raise ConfigError(f"{option} is given {count} times: its values go behind one")


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
            "for another image size there is --init-size, and for what a bare file doesn't tell --init-set"
        )


def run(recipe: str, command: Command) -> None:
    """Trains, and says what came of it and where it is."""
    if command.config.deterministic:  # before JAX begins
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
    from train.config.paths import absolute, check_local

    check_local("--workdir", command.workdir)
    config = absolute(command.config)
    from train.devices import hosts  # jax
    from train.devices.failures import memory_failures
    from train.run import run as train

    try:
        hosts.start(command.hosts)
        with hosts.guarded(), memory_failures(LESS_MEMORY):
            result = train(config, command.workdir, recipe=recipe, overwrite=command.overwrite)
    except (NonFiniteLoss, SavingError) as error:
        _fail(error, 1)
    except Stopped as stopped:
        print(f"vit-train: {stopped}; the same command goes on from it", file=sys.stderr)
        sys.exit(128 + stopped.number)
    except KeyboardInterrupt:
        _stop(command.workdir / "steps")
    if not hosts.is_first():
        return
    curves = command.workdir / "curves.png"
    drawn = f"{curves}  loss, accuracy and learning rate\n" if curves.is_file() else ""  # or why not was said
    print(
        f"held-out accuracy {result.test_accuracy:.2%}, loss {result.test_loss:.4f} ({result.weights} weights); "
        f"{result.train_seconds:.1f} s of training after {result.compile_seconds:.1f} s of compiling\n"
        f"{command.workdir / 'checkpoint'}  the model, for both frameworks\n"
        f"{command.workdir / 'best'}  its weights when they were best held out: {result.best.accuracy:.2%}, "
        f"step {result.best.step}\n"
        f"{drawn}"
        f"{command.workdir / 'confusion.png'}  what is taken for what; classes.json has each class's accuracy"
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


def _described(recipe: str) -> str:
    """All that a recipe's docstring says, each part a paragraph: help joins lines."""
    return re.sub(r"(?<!\n)\n(?=[A-Z][a-z]+: )", "\n\n", inspect.getdoc(RECIPES[recipe]) or "")


if __name__ == "__main__":
    main()
