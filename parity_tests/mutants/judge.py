"""What happens in a mutant's own process, and in that of the true code: promises are measured.

Imports of what is tested wait until a function runs: the parent process must not load it.
"""

import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from parity_tests.mutants.mutant import Mutant, plant

SEEDS = 3  # for which the promise that should see a mistake is measured


@dataclass(frozen=True)
class Seen:
    """Where a promise was first found broken."""

    promise: str
    what: str
    found: float
    tolerance: float

    def __str__(self) -> str:
        amount = f"{self.found:.1e} where {self.tolerance:.1e} is allowed" if self.tolerance else "no comparable values"
        return f"{self.promise}: {self.what}, {amount}"


@dataclass(frozen=True)
class Verdict:
    """What came of a mutant: killed where something was seen."""

    seen: Seen | None
    conventional: float | None  # how far apart the conventional test finds the two; None: it was not asked
    seconds: float


@dataclass(frozen=True)
class Kept:
    """A promise that the true code kept, or did not."""

    promise: str
    seeds: int
    worst: str  # of what came nearest to its tolerance
    times: float  # that tolerance
    broken: tuple[Seen, ...]
    seconds: float


def judge(mutant: Mutant, originals: Path | None) -> Verdict:
    """Measures the promises until one is broken, the likeliest first.

    Args:
        originals: the folder for the conventional test; None: it isn't asked.
    """
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        plant(mutant, Path(folder))
        sys.path.insert(0, folder)
        from parity_tests.mutants.promises import PROMISES

        check_origin(mutant, Path(folder))
        first = PROMISES[mutant.promise]
        others = [name for name in PROMISES if name != mutant.promise]
        seen = broken(mutant.promise, range(SEEDS)) or next(filter(None, (broken(name, [0]) for name in others)), None)
        conventional = None if originals is None else first.conventional(originals)
    return Verdict(seen, conventional, time.perf_counter() - begun)


def check_origin(mutant: Mutant, folder: Path) -> None:
    """Raises RuntimeError if the package that was loaded isn't the one with the mistake."""
    loaded = sys.modules[mutant.package].__file__ or ""
    if not Path(loaded).is_relative_to(folder):
        raise RuntimeError(f"{mutant.package} comes from {loaded}, not from {folder}: it was loaded too early")


def broken(name: str, seeds: Iterable[int]) -> Seen | None:
    """Where a promise is first broken, if it is."""
    from parity_tests.mutants.promises import PROMISES

    for seed in seeds:
        try:
            for measured in PROMISES[name].measure(seed):
                if not measured.kept:
                    return Seen(name, measured.what, measured.found, measured.tolerance)
        except AssertionError as error:
            return Seen(name, str(error), float("inf"), 0.0)
    return None


def true_code(name: str, seeds: int) -> Kept:
    """Measures a promise on the code as it is."""
    from parity_tests.mutants.promises import PROMISES

    begun, promise = time.perf_counter(), PROMISES[name]
    worst, times, alarms = "", 0.0, []
    asked = min(seeds, 1) if promise.fixed else seeds
    for seed in range(asked):
        for measured in promise.measure(seed):
            if not worst or measured.times > times:
                worst, times = measured.what, measured.times
            if not measured.kept:
                alarms.append(Seen(name, f"seed {seed}, {measured.what}", measured.found, measured.tolerance))
    return Kept(name, asked, worst, times, tuple(alarms), time.perf_counter() - begun)


def prepare(originals: Path) -> list[str]:
    """Fills the folder that conventional tests of files start from; the names of all promises."""
    from parity_tests.mutants.promises import PROMISES
    from parity_tests.mutants.promises.files import write_originals

    write_originals(originals)
    return list(PROMISES)
