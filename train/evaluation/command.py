"""vit-train evaluate CHECKPOINT --data NAME: how good a checkpoint of any layout is on a dataset"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.config import ConfigError, DataConfig, HostsConfig
from train.config.checks import check_all, share
from vit_convert.outputs import OutputError, check_output, check_unread
from vit_convert.streams import answer, one_line

if TYPE_CHECKING:  # heavy imports wait until they are needed: help answers at once
    from train.evaluation.checkpoint import Judged, Opened

WORST = 5  # classes and pairs that are shown

DESCRIPTION = """Judges a checkpoint by every image of a split, with the preprocessing that it comes with: top-1, top-5,
loss, and the classes that it gets wrong. On all devices."""

EPILOG = """CHECKPOINT is what vit-convert takes (a file, a directory of any library, a saved step,
hf-hub:owner/name), or the WORKDIR of a run. The dataset's classes are matched with the checkpoint's by
name where both have the same names."""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vit-train evaluate", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False
    )
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT")
    add("--data", metavar="NAME", required=True, help="digits, a prepared TFDS dataset, or folder:PATH")
    add("--data-dir", metavar="DIR", type=Path, help="where TFDS has its datasets")
    add("--split", default="test", help="which part of it (default: test)")
    add("--batch-size", type=int, default=256, metavar="N", help="over all devices (default: 256)")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of computation (default: float32)")
    add("--max-corrupt", type=float, default=0.01, metavar="SHARE", help="of unreadable images (default: 0.01)")
    add("--json", action="store_true", help="print JSON, with every class")
    add("--confusion", metavar="PNG", type=Path, help="a picture of what is taken for what")
    told = parser.add_argument_group("what the checkpoint doesn't tell, as vit-convert asks for it")
    told.add_argument("--preset", metavar="NAME", help="the model's name: vit_base_patch16_224")
    told.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="one config field")
    told.add_argument("--weights", metavar="NAME", help="which of several in one file: model, model_ema, teacher")
    hosts = parser.add_argument_group("one of several processes")
    hosts.add_argument("--distributed", action="store_true", help="SLURM, GKE, a TPU pod or Open MPI says which")
    hosts.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0, where nothing says it")
    hosts.add_argument("--processes", type=int, metavar="N")
    hosts.add_argument("--process-id", type=int, metavar="I")
    return parser


def main(args: list[str]) -> None:
    """The command.

    Raises:
        ConfigError: no such checkpoint or dataset, or they don't fit; the message says what to do.
    """
    given = make_parser().parse_args(args)
    _check(given)
    joined = HostsConfig(
        distributed=given.distributed,
        coordinator=given.coordinator,
        processes=given.processes,
        process_id=given.process_id,
    )
    from train.config.paths import absolute_data
    from train.devices import hosts  # jax
    from train.devices.failures import memory_failures
    from train.evaluation.checkpoint import Asked, judge_checkpoint, open_both
    from vit_convert.resolve import parse_overrides

    hosts.start(joined)
    data = DataConfig(name=given.data, dir=given.data_dir, test_split=given.split, max_corrupt=given.max_corrupt)
    data = absolute_data(data)
    of: dict[str, Any] = dict(batch_size=given.batch_size, dtype=given.dtype, preset=given.preset)
    try:
        of |= dict(overrides=parse_overrides(given.set), weights=given.weights)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    asked = Asked(checkpoint=given.checkpoint, data=data, **of)
    opened = hosts.together(lambda: _for_picture(open_both(asked), given.confusion))
    if hosts.is_first():
        note(opened.said)
    with hosts.guarded(), memory_failures("a smaller --batch-size and --dtype bfloat16"):
        judged = judge_checkpoint(opened, progress if hosts.is_first() else lambda batches, count: batches)
    for what in judged.left_out:
        hosts.say_own(f"left out, for it can't be decoded: {one_line(what)}", lambda text: note([text]))
    if hosts.is_first():
        report(opened, judged, given.confusion, as_json=given.json)


def _check(given: argparse.Namespace) -> None:
    from train.config.paths import FOLDER, check_local

    check_local("CHECKPOINT", given.checkpoint)
    check_local("--data", given.data.removeprefix(FOLDER))
    check_local("--data-dir", given.data_dir)
    if given.batch_size < 1:
        raise ConfigError(f"--batch-size must be at least 1, got {given.batch_size}")
    check_all([share("--max-corrupt", given.max_corrupt, one=True)])
    if given.confusion:
        with _as_mistake():
            check_output("--confusion", given.confusion, ".png")


@contextmanager
def _as_mistake() -> Iterator[None]:
    """Raises ConfigError for an output that can't have the name that it is given."""
    try:
        yield
    except (OutputError, OSError) as error:  # the latter of a device
        raise ConfigError(str(error)) from error


def _for_picture(opened: "Opened", path: Path | None) -> "Opened":
    """What was opened, if a picture of it can be drawn and would be written over none of it."""
    from train.evaluation.counts import CONFUSABLE
    from train.input.sources.folder import Folder

    if path is None:
        return opened
    count = opened.checkpoint.config.num_classes
    if count > CONFUSABLE:
        raise ConfigError(f"--confusion is for at most {CONFUSABLE} classes, and these are {count}: leave it out")
    images = (file for file, _ in opened.source.files) if isinstance(opened.source, Folder) else ()
    with _as_mistake():
        check_unread({"--confusion": path}, opened.asked.checkpoint, images)
    return opened


def note(notes: Iterable[str]) -> None:
    for text in notes:
        print(f"note: {text}", file=sys.stderr)


def progress(batches: Iterable[Any], count: int) -> Iterable[Any]:
    """A live line on a terminal, gone when it ends."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    hidden = not console.is_terminal
    return track(batches, "evaluating", count, console=console, transient=True, disable=hidden)


def report(opened: "Opened", judged: "Judged", confusion: Path | None, *, as_json: bool) -> None:
    """Leaves the picture, and prints what came of it: last, for who reads it may leave early, as in `| head`."""
    matrix = judged.evaluated.confusion
    if confusion and matrix is not None:
        from train.evaluation.picture import draw_confusion

        data, found = opened.asked.data, judged.evaluated
        title = f"{data.name} {data.test_split}: {found.accuracy:.2%} of {found.count:,}"
        draw_confusion(matrix, opened.classes.names, confusion, title)
    answer(json.dumps(facts(opened, judged), indent=2) if as_json else text(opened, judged))


def facts(opened: "Opened", judged: "Judged") -> dict[str, Any]:
    """What --json prints."""
    found, data = judged.evaluated, opened.asked.data
    return {
        "checkpoint": opened.path,
        "layout": opened.checkpoint.layout,
        "data": data.name,
        "split": data.test_split,
        "count": found.count,
        "correct": found.correct,
        "top1": found.accuracy,
        "top5": found.top5,
        "loss": found.loss,
        "classes": found.by_class(opened.classes.names),
        "left_out": judged.left_out,
        "notes": list(opened.said),
        "seconds": judged.seconds,
    }


def text(opened: "Opened", judged: "Judged") -> str:
    """What is printed for people."""
    from train.evaluation.confused import most_confused, worst_classes

    found, data = judged.evaluated, opened.asked.data
    names = [one_line(name) for name in opened.classes.names]
    lines = [
        one_line(f"{opened.path} ({opened.checkpoint.layout}) on {data.name}, split {data.test_split}: ")
        + f"{found.count:,} images in {judged.seconds:.1f} s",
        f"top-1  {found.accuracy:7.2%}  {found.correct:,} of {found.count:,}",
        f"top-{min(5, len(names))}  {found.top5:7.2%}",
        f"loss   {found.loss:7.4f}",
    ]
    worst = worst_classes(found.class_correct, found.class_count, names, WORST)
    lines += ["the classes that are right the least:"]
    lines += [f"  {w.correct / w.of:7.2%}  {w.correct:,} of {w.of:,}  {w.name}" for w in worst]
    pairs = [] if found.confusion is None else most_confused(found.confusion, names, WORST)
    lines += ["taken for another the most:"] * bool(pairs)
    lines += [f"  {p.count:,} of {p.of:,}  {p.label} as {p.prediction}" for p in pairs]
    return "\n".join(lines)
