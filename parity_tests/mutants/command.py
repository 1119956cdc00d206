"""The command: every mistake, or those named, and the true code, two at a time; what came of them."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import jax

from parity_tests.mutants import picture, report
from parity_tests.mutants.journal import Journal
from parity_tests.mutants.judge import judge, prepare, true_code
from parity_tests.mutants.mutant import Mutant
from parity_tests.mutants.outcome import Outcome
from parity_tests.mutants.processes import Died, run_all
from parity_tests.mutants.table import MUTANTS

WORKERS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: all are seen and nothing alarms; 1: not so; 2: a wrong argument."""
    parser = argparse.ArgumentParser(prog="python -m parity_tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mistakes, by their names in the table; none: all")
    parser.add_argument("--seeds", type=int, default=100, help="of the true code, for each promise (%(default)s)")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="write the page there, as docs/mutants.md is, and its picture (.png)",
    )
    parser.add_argument(
        "--verdicts",
        type=Path,
        metavar="FILE",
        help="remember verdicts there, and go on from those of the same sources",
    )
    parser.add_argument("--no-conventional", action="store_true", help="leave the usual float32 test out")
    given = parser.parse_args(arguments)
    if given.seeds < 0:
        parser.error(f"--seeds must be at least 0, got {given.seeds}")
    if given.report and (given.names or given.no_conventional):
        parser.error("--report is of all mistakes and of the usual test: leave NAME and --no-conventional out")
    journal = Journal(given.verdicts)
    outcome = run(chosen(parser, given.names), given.seeds, journal, conventional=not given.no_conventional)
    say_all(outcome)
    if given.report:
        report.write(outcome, given.report)
        picture.draw(outcome, given.report.with_suffix(".png"))
    return 0 if outcome.good else 1


def chosen(parser: argparse.ArgumentParser, names: Sequence[str]) -> list[Mutant]:
    """The mistakes that were named; ends the command for a name that is none."""
    for name in names:
        if name not in MUTANTS:
            close = get_close_matches(name, MUTANTS, n=3, cutoff=0.4)
            parser.error(f"{name!r} is no mistake of the table" + (f"; close are {', '.join(close)}" if close else ""))
    return [MUTANTS[name] for name in names or MUTANTS]


def run(mutants: Sequence[Mutant], seeds: int, journal: Journal, *, conventional: bool) -> Outcome:
    """The mistakes, and the promises that they should break: the true code has to keep the same.

    Raises:
        RuntimeError: the true code can't even write what the usual tests start from.
    """
    outcome = journal.read(seeds)
    with tempfile.TemporaryDirectory() as folder:
        originals = Path(folder) / "originals"
        remember_programs(Path(folder) / "programs")
        ((_, promises),) = run_all({"prepare": partial(prepare, originals)}, 1)
        if isinstance(promises, Died):
            raise RuntimeError(promises.why)
        left = [mutant for mutant in mutants if mutant.name not in outcome.verdicts]
        tasks = {m.name: partial(judge, m, originals if conventional else None) for m in left}
        for name, verdict in run_all(tasks, WORKERS):
            outcome.verdicts[name] = verdict
            journal.write(name, verdict)
            say(len(outcome.verdicts), len(mutants), report.line(name, verdict))
        wanted = promises if len(mutants) == len(MUTANTS) else list(dict.fromkeys(m.promise for m in mutants))
        asked = [name for name in wanted if name not in outcome.kept] if seeds else []
        for name, kept in run_all({name: partial(true_code, name, seeds) for name in asked}, WORKERS):
            outcome.kept[name] = kept
            journal.write(name, kept)
            say(len(outcome.kept), len(wanted), report.kept_line(name, kept))
    return outcome


def remember_programs(folder: Path) -> None:
    """Lets all processes share what they compile: most programs of a mutant are those of the true code."""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def say(done: int, of: int, text: str) -> None:
    print(f"{done}/{of}  {text}", flush=True)


def say_all(outcome: Outcome) -> None:
    """The sums, and why what came to no result did not."""
    for name, died in outcome.dead.items():
        print(f"\n{name} came to no result:\n{died.why}", file=sys.stderr)
    count = len(outcome.verdicts)
    print(f"\n{len(outcome.killed)} of {count} mistakes seen; surviving: {', '.join(outcome.survivors) or 'none'}")
    print(f"{len(outcome.kept)} promises measured on the true code; alarms: {', '.join(outcome.alarms) or 'none'}")
    if any(getattr(verdict, "conventional", None) is not None for verdict in outcome.verdicts.values()):
        print(report.sentence(outcome))
